"""Official clients retry by themselves: with an Idempotency-Key that never creates twice (contract 7.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from tests.contract.official import API_KEY, Client, Process, SdkError
from tests.contract.reading import MODEL, streamed_text, text_of
from tests.support.front import Front, fronted
from tests.support.gateway import Gateway
from tests.support.upstreams import Emulated

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Answer = TypeVar("Answer")

KEY = {"Idempotency-Key": '"order 17"'}
ASK = {"model": MODEL, "input": "Once, please."}


@pytest.fixture
async def lossy(gateway: Gateway) -> AsyncIterator[tuple[str, Front]]:
    """The service behind a network that loses answers."""
    async with fronted(gateway.url) as front:
        yield front


@pytest.fixture
def near(sdk_process: Process, lossy: tuple[str, Front]) -> Client:
    """An official client before that network; it tries three times."""
    return Client(sdk_process, lossy[0], API_KEY, headers=KEY, attempts=3)


async def insist(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Call again after a broken connection, as users of google-genai 3 must: the other clients do it themselves."""
    try:
        return await call()
    except SdkError as error:
        if error.name != "APIConnectionError":
            raise
        return await call()


async def test_a_client_that_retries_after_a_lost_answer_gets_it(
    near: Client, lossy: tuple[str, Front], upstream: Emulated
) -> None:
    lossy[1].losses = 1
    answer = await insist(lambda: near.create(**ASK))
    assert "Once, please." in text_of(answer)
    assert lossy[1].losses == 0
    assert (await near.create(**ASK))["id"] == answer["id"]
    assert len(upstream.creates) == 1


async def test_a_client_that_retries_after_a_lost_stream_gets_all_of_it(
    near: Client, lossy: tuple[str, Front], upstream: Emulated
) -> None:
    lossy[1].losses = 1
    events = await insist(lambda: near.stream(**ASK))
    assert "Once, please." in streamed_text(events)
    assert events[-1]["interaction"]["status"] == "completed"
    assert await near.stream(**ASK) == events
    assert len(upstream.creates) == 1


async def test_a_client_that_retries_after_a_refusal_is_tried_anew(near: Client, upstream: Emulated) -> None:
    upstream.fault("status;code=503")
    answer = await near.create(**ASK)
    assert "Once, please." in text_of(answer)
    assert len(upstream.creates) == 2


async def test_a_key_of_one_call_is_given_with_it(near: Client, upstream: Emulated) -> None:
    if near.sdk.language == "js":
        # Its calls have no headers of their own.
        answers = await near.together(*[ASK] * 5)
    else:
        answers = await near.having(headers={}).together(*[{**ASK, "extra_headers": KEY}] * 5)
    assert len({answer["id"] for answer in answers}) == 1
    assert len(upstream.creates) == 1


async def test_a_key_with_another_body_is_an_exception(near: Client, upstream: Emulated) -> None:
    await near.create(**ASK)
    with pytest.raises(SdkError) as caught:
        await near.create(model=MODEL, input="Something else.")
    assert (caught.value.name, caught.value.status) == ("UnprocessableEntityError", 422)
    assert "another body" in caught.value.message
    assert len(upstream.creates) == 1
