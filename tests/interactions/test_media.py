"""Media by URI are kept while upstream has them, and sent again when it has them no more (contract 5.2, 5.5)."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

import pytest

from tests.interactions.conversations import WEATHER, said
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.raw_server import always, answer, raw_server
from tests.support.replies import Json, Reply
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment

PICTURE = b"\x89PNG" + os.urandom(20_000)
FILM = {"type": "video", "delivery": "uri"}


def image(uri: str, **members: Any) -> Json:
    return {"type": "image", "uri": uri, "mime_type": "image/png", **members}


def shown(uri: str, text: str = "Look") -> Json:
    """A user turn with a picture."""
    return {"type": "user_input", "content": [{"type": "text", "text": text}, image(uri)]}


def inline(body: bytes = PICTURE, **members: Any) -> Json:
    data = base64.b64encode(body).decode()
    return {"type": "image", "data": data, "mime_type": "image/png", **members}


async def forgetful(start_gateway: StartGateway, upstream: Emulated, **settings: Any) -> Gateway:
    """A service that believes neither upstream's copies nor its files to live, and keeps media."""
    serving = deployment(upstream, MODEL, retention=0.0, file_retention=0.0)
    return await start_gateway(**{"deployments": (serving,), "keep_media": True} | settings)


async def counts(gateway: Gateway) -> tuple[int, int, int]:
    """References, contents and notes of what is to be fetched."""
    (row,) = await query(
        gateway.database.url,
        "SELECT (SELECT count(*) FROM media), (SELECT count(*) FROM media_contents), "
        "(SELECT count(*) FROM leases WHERE kind = 'media')",
    )
    return row[0], row[1], row[2]


async def until(gateway: Gateway, references: int, contents: int, notes: int = 0) -> None:
    async def reached() -> bool:
        return await counts(gateway) == (references, contents, notes)

    await eventually(reached)


async def refused_as_dead(gateway: Gateway, link: Reply, uri: str) -> None:
    """A follow-up is refused for a file that has died, and the refusal says which and where."""
    reply = await gateway.refused(400, "And now?", previous_interaction_id=link.id)
    assert reply.error["code"] == "failed_precondition"
    assert link.id in reply.error["message"]
    assert uri in reply.error["message"]


async def test_a_picture_is_sent_again_after_its_file_has_died(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    uri = upstream.put_file(PICTURE)
    content = [{"type": "text", "text": "Look"}, image(uri, resolution="high")]
    first = await gateway.ask(content)
    await until(gateway, 1, 1)
    upstream.clock.advance(3 * 86_400)
    second = await gateway.ask("And now?", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"] == [
        {"type": "user_input", "content": [content[0], inline(resolution="high")]},
        *first.steps,
        said("And now?"),
    ]
    assert second.body["status"] == "completed"
    # What the client sent is what the store shows.
    assert (await gateway.got(first.id, include_input="true")).body["input"] == content
    third = await gateway.ask("And then?", previous_interaction_id=second.id)
    assert inline(resolution="high") in upstream.creates[-1]["input"][0]["content"]
    assert third.body["status"] == "completed"


async def test_a_film_delivered_by_uri_is_kept(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await forgetful(start_gateway, upstream)
    whole = await gateway.ask("Film", response_format={"type": "video"})
    (film,) = whole.steps[-1]["content"]
    first = await gateway.ask("Film", response_format=FILM)
    (pointer,) = first.steps[-1]["content"]
    await until(gateway, 1, 1)
    upstream.clock.advance(3 * 86_400)
    await gateway.ask("Shorter", previous_interaction_id=first.id)
    sent = upstream.creates[-1]["input"]
    assert sent[-2]["content"] == [film]
    assert "uri" not in sent[-2]["content"][0]
    assert (await gateway.got(first.id)).steps[-1]["content"] == [pointer]


async def test_streams_and_background_runs_are_kept_too(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    streamed = await gateway.stream([shown(upstream.put_file(PICTURE))])
    await until(gateway, 1, 1)
    running = await gateway.ask([shown(upstream.put_file(b"another"))], background=True, response_format=FILM)
    await until(gateway, 2, 2)
    upstream.clock.advance(100)
    assert (await gateway.finished(running.id)).body["status"] == "completed"
    await until(gateway, 3, 3)
    upstream.clock.advance(3 * 86_400)
    for name, body in ((streamed.id, PICTURE), (running.id, b"another")):
        await gateway.ask("And now?", previous_interaction_id=name)
        assert upstream.creates[-1]["input"][0]["content"][1] == inline(body)


async def test_a_picture_in_the_result_of_a_function_is_kept(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    asked = await gateway.ask("The weather?", tools=[WEATHER])
    (call,) = [step for step in asked.steps if step["type"] == "function_call"]
    result = {
        "type": "function_result",
        "call_id": call["id"],
        "name": call["name"],
        "result": [{"type": "text", "text": "sunny"}, image(upstream.put_file(PICTURE))],
    }
    told = await gateway.ask([result], previous_interaction_id=asked.id, tools=[WEATHER])
    await until(gateway, 1, 1)
    await gateway.ask("Thanks", previous_interaction_id=told.id)
    sent = {step["type"]: step for step in upstream.creates[-1]["input"]}
    assert sent["function_result"] == {**result, "result": [{"type": "text", "text": "sunny"}, inline()]}


async def test_a_legacy_callers_picture_is_kept(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await forgetful(start_gateway, upstream)
    turns = [
        {"role": "user", "content": [image(upstream.put_file(PICTURE)), {"type": "text", "text": "Look"}]}
    ]
    first = await gateway.post({"model": MODEL, "input": turns}, **LEGACY)
    assert first.status == 200
    await until(gateway, 1, 1)
    await gateway.ask("And now?", previous_interaction_id=first.body["id"])
    assert upstream.creates[-1]["input"][0]["content"][0] == inline()


async def test_a_file_that_lives_is_named_as_before(start_gateway: StartGateway, upstream: Emulated) -> None:
    lasting = deployment(upstream, MODEL, retention=0.0)
    gateway = await start_gateway(deployments=(lasting,), keep_media=True)
    turn = shown(upstream.put_file(PICTURE))
    first = await gateway.ask([turn])
    await until(gateway, 1, 1)
    await gateway.ask("And now?", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"][0] == turn


async def test_without_keeping_a_file_that_lives_is_named_and_one_that_died_is_told(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    lasting = await start_gateway(deployments=(deployment(upstream, MODEL, retention=0.0),))
    uri = upstream.put_file(PICTURE)
    first = await lasting.ask([shown(uri)])
    second = await lasting.ask("And now?", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"][0] == shown(uri)
    gateway = await forgetful(start_gateway, upstream, keep_media=False)
    upstream.clear()
    await refused_as_dead(gateway, first, uri)
    reply = await gateway.refused(400, "And then?", previous_interaction_id=second.id)
    assert first.id in reply.error["message"]
    assert second.id not in reply.error["message"]
    assert upstream.requests == []
    assert await counts(gateway) == (0, 0, 0)


async def test_what_is_too_large_is_not_kept(
    start_gateway: StartGateway, upstream: Emulated, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await forgetful(start_gateway, upstream, max_media_bytes=len(PICTURE))
    fitting, large = upstream.put_file(PICTURE), upstream.put_file(PICTURE + b"x")
    first = await gateway.ask([shown(fitting), shown(large)])
    await until(gateway, 1, 1)
    await refused_as_dead(gateway, first, large)
    (told,) = [entry.message for entry in caplog.records if "is not kept" in entry.message]
    assert first.id in told
    assert large.removeprefix(upstream.url) in told


async def test_too_much_media_for_a_request_is_refused(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream, max_rebuild_bytes=len(PICTURE) + 1000)
    first = await gateway.ask([shown(upstream.put_file(PICTURE)), shown(upstream.put_file(PICTURE[:-1]))])
    await until(gateway, 2, 2)
    upstream.clear()
    reply = await gateway.refused(400, "And now?", previous_interaction_id=first.id)
    assert "max_rebuild_bytes" in reply.error["message"]
    assert upstream.requests == []


async def test_nothing_is_ever_fetched_from_anywhere_else(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    port = upstream.server.port
    async with raw_server(always(answer(PICTURE))) as elsewhere:
        uris = [
            f"{elsewhere.url}/v1beta/files/abc",
            f"{elsewhere.url}/v1beta/files/abc:download?alt=media",
            f"http://127.0.0.1:{port}@127.0.0.1:{elsewhere.port}/v1beta/files/abc",
            f"http://user@127.0.0.1:{port}/v1beta/files/abc",
            f"http://localhost:{port}/v1beta/files/abc",
            f"https://127.0.0.1:{port}/v1beta/files/abc",
            f"{upstream.url}/v1beta/interactions/v1_abc",
            f"{upstream.url}/v1beta/files/abc/../../interactions/v1_abc",
            f"{upstream.url}/v1beta/files/%61bc",
            f"{upstream.url}/other/v1beta/files/abc",
            "gs://bucket/v1beta/files/abc",
            "https://www.youtube.com/watch?v=abc",
            "http://[/v1beta/files/abc",
            "",
        ]
        gateway = await forgetful(start_gateway, upstream)
        ours = upstream.put_file(PICTURE)
        first = await gateway.ask([shown(uri) for uri in [*uris, ours]])
        await until(gateway, 1, 1)
        await gateway.ask("And now?", previous_interaction_id=first.id)
        assert upstream.creates[-1]["input"][: len(uris)] == [shown(uri) for uri in uris]
        assert elsewhere.connections == 0
    assert [seen["path"] for seen in upstream.calls("GET")] == [ours.removeprefix(upstream.url) + ":download"]


async def test_the_same_file_in_ten_turns_is_fetched_and_stored_once(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    uri = upstream.put_file(PICTURE)
    replies = await asyncio.gather(*(gateway.ask([shown(uri, f"Turn {number}")]) for number in range(5)))
    for number in range(5):
        spelling = uri.replace("/v1beta/", "/v1/") + ":download?alt=media" if number % 2 else uri
        replies.append(
            await gateway.ask([shown(spelling)], previous_interaction_id=replies[-1].id if number else None)
        )
        await until(gateway, 6 + number, 1)
    assert len(upstream.downloads) == 1
    upstream.clock.advance(3 * 86_400)
    await gateway.ask("And now?", previous_interaction_id=replies[-1].id)
    pictures = [
        content
        for step in upstream.creates[-1]["input"]
        for content in step.get("content", ())
        if content["type"] == "image"
    ]
    assert pictures == [inline()] * 5


async def test_a_file_that_cannot_be_had_now_is_asked_for_again(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    upstream.fault("status;code=503", method="GET")
    await gateway.ask([shown(upstream.put_file(PICTURE))])
    await until(gateway, 1, 1)
    assert len(upstream.downloads) == 2


async def test_what_upstream_does_not_give_out_is_given_up(
    start_gateway: StartGateway, upstream: Emulated, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    uri = upstream.put_file(PICTURE, source="UPLOADED")
    first = await gateway.ask([shown(uri)])

    async def told() -> bool:
        return any(
            first.id in entry.message and "upstream answered 400" in entry.message for entry in caplog.records
        )

    await eventually(told)
    await until(gateway, 0, 0)
    assert len(upstream.downloads) == 1
    await refused_as_dead(gateway, first, uri)


async def test_what_a_process_had_no_time_for_is_fetched_by_another(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream, drain_timeout=0.2)
    # As many as are fetched at once; the others never get their turn.
    upstream.fault("latency;seconds=3600", method="GET", count=4)
    first = await gateway.ask([shown(upstream.put_file(PICTURE))])
    for number in range(5):
        await gateway.ask([shown(upstream.put_file(b"%d" % number))])
    # Had the process been killed now, nothing would be missing.
    assert await counts(gateway) == (0, 0, 6)
    await gateway.stop()
    assert await counts(gateway) == (0, 0, 6)
    await query(gateway.database.url, "UPDATE leases SET due_at = 0")
    successor = await forgetful(start_gateway, upstream)
    await until(successor, 6, 6)
    await successor.ask("And now?", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"][0]["content"][1] == inline()


async def test_what_a_run_was_asked_with_is_kept_by_who_takes_it_over(
    start_gateway: StartGateway, start_emulator: StartEmulator
) -> None:
    upstream = await start_emulator(get_includes_input=False)
    first = await forgetful(start_gateway, upstream, drain_timeout=0.2)
    slow = "background;queued=3600;running=3600"
    made = await first.ask([shown(upstream.put_file(PICTURE))], background=True, wish=slow)
    await first.stop()
    second = await forgetful(
        start_gateway, upstream, background_streams=0, poll_interval=0.02, poll_interval_max=0.05
    )
    upstream.clock.advance(10_000)
    await second.finished(made.id)
    await until(second, 1, 1)


async def test_a_stop_waits_for_what_is_being_fetched(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    upstream.fault("latency;seconds=3600", method="GET")
    await gateway.ask([shown(upstream.put_file(PICTURE))])
    await until(gateway, 0, 0, notes=1)
    stopping = asyncio.create_task(gateway.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    upstream.release()
    await stopping
    assert await counts(gateway) == (1, 1, 0)


async def test_nothing_is_kept_of_what_was_deleted_meanwhile(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await forgetful(start_gateway, upstream)
    upstream.fault("latency;seconds=3600", method="GET")
    first = await gateway.ask([shown(upstream.put_file(PICTURE))])
    second = await gateway.ask([shown(upstream.put_file(b"kept at first"))])
    await until(gateway, 1, 1, notes=1)
    await gateway.delete(second.id)
    await gateway.delete(first.id)
    stopping = asyncio.create_task(gateway.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    upstream.release()
    await stopping
    references, _, _ = await counts(gateway)
    assert references == 0
    # Bytes that came too late go with the next sweep, of which there is one at every start.
    await query(gateway.database.url, "UPDATE leases SET due_at = 0")
    successor = await forgetful(start_gateway, upstream)
    await until(successor, 0, 0)


async def test_what_is_not_stored_is_not_kept(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await forgetful(start_gateway, upstream)
    await gateway.ask([shown(upstream.put_file(PICTURE))], store=False)
    await gateway.ask([shown(upstream.put_file(b"stored"))])
    await until(gateway, 1, 1)
    assert len(upstream.downloads) == 1


async def test_a_file_is_bound_to_the_key_that_made_it(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    deployments = (
        deployment(upstream, "first", MODEL, retention=0.0),
        deployment(upstream, "second", "gemini-2.5-pro", key="another-key"),
        deployment(upstream, "third", "gemini-2.5-pro"),
    )
    gateway = await start_gateway(deployments=deployments, keep_media=True)
    turn = shown(upstream.put_file(PICTURE))
    first = await gateway.ask([turn], model="first")
    await until(gateway, 1, 1)
    # The second deployment has another key, the third the same.
    second = await gateway.ask("And now?", model="second", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"][0]["content"][1] == inline()
    assert second.body["status"] == "completed"
    await gateway.ask("And now?", model="third", previous_interaction_id=first.id)
    assert upstream.creates[-1]["input"][0] == turn


async def test_a_file_of_another_key_that_is_not_kept_is_told(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    uri = upstream.put_file(PICTURE)
    before = await start_gateway(deployments=(deployment(upstream, MODEL, id="before"),))
    first = await before.ask([shown(uri)])
    # The deployment that served the first turn is configured no more.
    moved = await start_gateway(deployments=(deployment(upstream, MODEL, id="after", key="key-new"),))
    await refused_as_dead(moved, first, uri)


async def test_a_file_of_an_upstream_that_is_gone_is_sent_from_the_store(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL, id="before"),), keep_media=True)
    first = await gateway.ask([shown(upstream.put_file(PICTURE))])
    await until(gateway, 1, 1)
    elsewhere = Emulated()
    await elsewhere.server.start_server()
    moved = await start_gateway(deployments=(deployment(elsewhere, MODEL, id="after"),))
    await moved.ask("And now?", previous_interaction_id=first.id)
    assert elsewhere.creates[-1]["input"][0]["content"][1] == inline()
    await elsewhere.close()
