"""Turns behind the origins of receivers: few at a time, and fewer where tries take long."""

from __future__ import annotations

from service.webhooks.origins import Origins, Turn

HANGING = "https://hanging.example/hook"
OTHER = "https://other.example/hook"


async def turns(origins: Origins, uri: str, count: int) -> list[Turn]:
    taken = [await origins.take(uri) for _ in range(count)]
    assert None not in taken
    return [turn for turn in taken if turn is not None]


async def test_an_origin_has_its_turns_and_no_other_origins() -> None:
    origins = Origins(most=3, slow=5.0)
    taken = await turns(origins, HANGING, 3)
    assert await origins.take("https://HANGING.example/elsewhere") is None
    await turns(origins, OTHER, 3)
    taken[0].end()
    assert await origins.take(HANGING) is not None


async def test_a_slow_origin_has_fewer_until_it_answers_again() -> None:
    origins = Origins(most=8, slow=5.0)
    origins.note(HANGING, 5.0)
    assert (origins.is_slow(HANGING), origins.is_slow(OTHER)) == (True, False)
    taken = await turns(origins, HANGING, 2)
    assert await origins.take(HANGING) is None
    await turns(origins, OTHER, 8)
    origins.note(HANGING, 0.1)
    for turn in taken:
        turn.end()
    await turns(origins, HANGING, 8)


async def test_not_every_slow_origin_is_remembered_for_ever() -> None:
    origins = Origins(most=8, slow=5.0)
    for number in range(5_000):
        origins.note(f"https://{number}.example/", 6.0)
    assert not origins.is_slow("https://0.example/")
    assert origins.is_slow("https://4999.example/")
