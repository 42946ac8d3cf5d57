"""A stream whose connection is lost goes on by itself, and tells each event once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from service import (
    AsyncInteractionsClient,
    ConnectionFailed,
    ConnectionLost,
    ErrorEvent,
    InteractionNotFound,
    InteractionsClient,
    InvalidAnswer,
    StreamEvent,
    StreamLost,
    delete_interaction,
)
from tests.support.cutting import CuttingProxy, cutting
from tests.support.sdk import MODEL, SERVICE_KEY, Backdrop
from tests.support.upstreams import sse

ASKED: dict[str, Any] = {"model": MODEL, "input": "Write a 3 paragraph story about a robot."}
IDS = {"x-interaction-id": "int_1", "Content-Type": "text/event-stream"}


@pytest.fixture
def network(backdrop: Backdrop) -> Iterator[CuttingProxy]:
    """A network that cuts, in front of the service."""
    stack = AsyncExitStack()
    proxy = backdrop.run(stack.enter_async_context(cutting(backdrop.service.url)))
    yield proxy
    backdrop.run(stack.aclose())


@pytest.fixture
def client(network: CuttingProxy) -> Iterator[InteractionsClient]:
    with InteractionsClient(base_url=network.url, api_key=SERVICE_KEY, resume_timeout=5) as made:
        yield made


def ids(events: list[StreamEvent]) -> list[str | None]:
    return [event.event_id for event in events]


@pytest.mark.parametrize("bytes_more", [0, 1, 40], ids=["between", "at the start of", "inside"])
def test_a_stream_cut_at_every_event_tells_each_once(
    network: CuttingProxy, client: InteractionsClient, bytes_more: int
) -> None:
    whole = list(client.create_interaction(**ASKED, stream=True))
    network.bytes_more = bytes_more
    for place in range(1, len(whole) + 1):
        network.cut_after, network.cuts = place, 1
        told = list(client.create_interaction(**ASKED, stream=True))
        assert network.cuts == 0
        assert ids(told) == ids(whole)


def test_a_stream_that_is_cut_after_each_event_comes_to_its_end(
    network: CuttingProxy, client: InteractionsClient
) -> None:
    whole = list(client.create_interaction(**ASKED, stream=True))
    network.cut_after, network.cuts, network.streams = 1, len(whole), 0
    with client.create_interaction(**ASKED, stream=True) as stream:
        told = list(stream)
    assert ids(told) == ids(whole)
    assert network.streams >= len(whole)
    assert stream.last_event_id == whole[-1].event_id
    assert list(client.get_interaction(str(stream.interaction_id), stream=True)) == told


async def test_the_asynchronous_form_goes_on_as_well(network: CuttingProxy) -> None:
    async with AsyncInteractionsClient(base_url=network.url, api_key=SERVICE_KEY) as client:
        whole = [event async for event in await client.create_interaction(**ASKED, stream=True)]
        network.cut_after, network.cuts = 1, len(whole)
        told = [event async for event in await client.create_interaction(**ASKED, stream=True)]
    assert ids(told) == ids(whole)


async def test_a_wait_that_is_cancelled_loses_no_event(network: CuttingProxy) -> None:
    slowly = {"x-emulator-fault": "trickle;bytes=200;seconds=0.02"}
    async with AsyncInteractionsClient(base_url=network.url, api_key=SERVICE_KEY) as client:
        stream = await client.create_interaction(**ASKED, stream=True, extra_headers=slowly)
        told: list[StreamEvent] = []
        given_up = 0
        while True:
            try:
                async with asyncio.timeout(0.005):
                    told.append(await anext(stream))
            except TimeoutError:
                given_up += 1
            except StopAsyncIteration:
                break
        assert given_up
        assert ids(told) == [f"evt_{seq}" for seq in range(1, len(told) + 1)]


def test_a_service_that_was_gone_for_a_while_is_found_again(
    network: CuttingProxy, client: InteractionsClient
) -> None:
    network.cut_after, network.cuts = 3, 1
    stream = client.create_interaction(**ASKED, stream=True)
    network.down = True
    back = threading.Timer(0.3, setattr, (network, "down", False))
    back.start()
    told = list(stream)
    back.join()
    assert ids(told) == [f"evt_{seq}" for seq in range(1, len(told) + 1)]
    assert told[-1].event_type == "interaction.completed"


def test_a_service_that_stays_away_ends_the_stream_with_an_error(network: CuttingProxy) -> None:
    network.cut_after, network.cuts = 3, 1
    told: list[StreamEvent] = []
    with InteractionsClient(base_url=network.url, api_key=SERVICE_KEY, resume_timeout=0.2) as client:
        stream = client.create_interaction(**ASKED, stream=True)
        network.down = True
        with pytest.raises(StreamLost, match="could not be taken up again") as caught:
            told.extend(stream)
        assert caught.value.interaction_id == stream.interaction_id
        # It was never the interaction that was lost.
        network.down = False
        told.extend(stream)
        assert told == list(client.get_interaction(str(stream.interaction_id), stream=True))


def test_an_interaction_that_was_deleted_meanwhile_is_told_as_that(
    backdrop: Backdrop, network: CuttingProxy, client: InteractionsClient
) -> None:
    network.cut_after, network.cuts = 2, 1
    stream = client.create_interaction(**ASKED, stream=True)
    delete_interaction(str(stream.interaction_id), **backdrop.remote)
    with pytest.raises(InteractionNotFound):
        list(stream)


def test_events_without_ids_are_not_told_twice(scripted: Any) -> None:
    events = [{"event_type": "step.start", "index": place} for place in range(5)]
    asked: list[web.Request] = []

    async def script(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        response = web.StreamResponse(headers=IDS)
        await response.prepare(request)
        if len(asked) < 4:
            await response.write(sse(*events[: len(asked) + 1], done=False))
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(sse(*events))
        return response

    with scripted(script) as client:
        told = list(client.create_interaction(**ASKED, stream=True))
    assert [event.model_dump(exclude_unset=True) for event in told] == events
    assert [request.method for request in asked] == ["POST", "GET", "GET", "GET"]
    assert all("last_event_id" not in request.query for request in asked)


def test_an_error_before_a_break_is_no_event_and_one_before_the_end_is(scripted: Any) -> None:
    error = {"event_type": "error", "error": {"code": "service_unavailable", "message": "Stopping."}}
    first = {"event_type": "interaction.created", "event_id": "e1", "interaction": {"id": "int_1"}}
    second = {"event_type": "step.start", "event_id": "e2", "index": 0}
    answers = [sse(first, error, done=False), sse(second, error)]
    asked: list[web.Request] = []

    async def script(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return web.Response(body=answers[len(asked) - 1], headers=IDS)

    with scripted(script) as client:
        told = list(client.create_interaction(**ASKED, stream=True))
    assert [event.event_id for event in told] == ["e1", "e2", None]
    assert isinstance(told[-1], ErrorEvent)
    assert told[-1].error.message == "Stopping."
    assert asked[1].query["last_event_id"] == "e1"


def test_a_farewell_is_the_reason_of_a_stream_that_stays_lost(scripted: Any) -> None:
    error = {"event_type": "error", "error": {"code": "service_unavailable", "message": "Stopping."}}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(body=sse(error, done=False), headers=IDS)
        return web.json_response({"error": {"code": "api_error", "message": "No."}}, status=500)

    with (
        scripted(script, resume_timeout=0.1) as client,
        pytest.raises(StreamLost, match="Stopping") as caught,
    ):
        list(client.create_interaction(**ASKED, stream=True))
    assert (caught.value.code, caught.value.interaction_id) == ("service_unavailable", "int_1")


def test_a_place_that_the_service_has_forgotten_is_a_loss(scripted: Any) -> None:
    first = {"event_type": "interaction.created", "event_id": "evt_1", "interaction": {"id": "int_1"}}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(body=sse(first, done=False), headers=IDS)
        return web.json_response({"error": {"code": "invalid_request", "message": "No evt_1."}}, status=400)

    with scripted(script) as client, pytest.raises(StreamLost, match="No evt_1"):
        list(client.create_interaction(**ASKED, stream=True))


def test_a_place_that_the_service_does_not_know_yet_is_asked_for_again(scripted: Any) -> None:
    first, second = ({"event_type": "step.start", "event_id": f"evt_{place}", "index": 0} for place in (1, 2))
    asked: list[web.Request] = []

    async def script(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if request.method == "POST":
            return web.Response(body=sse(first, done=False), headers=IDS)
        if len(asked) < 4:
            refusal = {"error": {"code": "service_unavailable", "message": "Not yet."}}
            return web.json_response(refusal, status=503, headers={"Retry-After": "0"})
        return web.Response(body=sse(second), headers=IDS)

    with scripted(script) as client:
        told = list(client.create_interaction(**ASKED, stream=True))
    assert [event.event_id for event in told] == ["evt_1", "evt_2"]
    assert [request.query["last_event_id"] for request in asked[1:]] == ["evt_1"] * 3


def test_a_stream_that_never_told_its_id_cannot_be_taken_up(scripted: Any) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b": nothing yet\n\n", content_type="text/event-stream")

    with scripted(script) as client, pytest.raises(StreamLost) as caught:
        list(client.create_interaction(**ASKED, stream=True))
    assert caught.value.interaction_id is None


def test_an_answer_in_place_of_a_stream_is_told_as_one(scripted: Any) -> None:
    body = {
        "id": "int_1",
        "status": "completed",
        "model": "m",
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Hello"}]}],
    }

    async def script(request: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    with scripted(script) as client:
        told = list(client.create_interaction(**ASKED, stream=True))
    assert told[0].event_type == "interaction.created"
    assert told[-1].event_type == "interaction.completed"
    assert "".join(getattr(event, "text", "") for event in told) == "Hello"


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[1, 2]", b"{"])
def test_an_answer_of_somebody_else_is_told_as_that(scripted: Any, body: bytes) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    with scripted(script) as client:
        for stream in (False, True):
            with pytest.raises(InvalidAnswer, match="base_url"):
                client.create_interaction(**ASKED, stream=stream)


def test_a_replay_that_tells_no_interaction_is_no_answer(scripted: Any) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.json_response({"interaction": None})

    with scripted(script) as client, pytest.raises(InvalidAnswer, match="replay"):
        client.replay_interaction("int_1")


def test_events_of_unexpected_types_break_nothing(scripted: Any) -> None:
    odd = {"event_type": "interaction.created", "event_id": "e1", "interaction": [5]}
    error = {"event_type": "error", "error": "Stopping."}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(body=sse(odd, error, done=False), content_type="text/event-stream")
        raise web.HTTPNotFound

    told: list[StreamEvent] = []
    with scripted(script) as client, pytest.raises(StreamLost, match="Stopping"):
        told.extend(client.create_interaction(**ASKED, stream=True))
    assert ids(told) == ["e1"]


def test_a_stream_that_is_dropped_closes_its_connection_and_the_interaction_goes_on(
    network: CuttingProxy, client: InteractionsClient
) -> None:
    slowly = {"x-emulator-fault": "trickle;bytes=200;seconds=0.01"}
    stream = client.create_interaction(**ASKED, stream=True, extra_headers=slowly)
    next(stream)
    identity = str(stream.interaction_id)
    del stream
    assert list(client.get_interaction(identity, stream=True))[-1].event_type == "interaction.completed"


def test_what_may_have_been_carried_out_is_sent_again_only_under_a_key(scripted: Any) -> None:
    asked: list[web.Request] = []

    async def script(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if len(asked) % 2:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": "int_1", "status": "completed"})

    with scripted(script) as client:
        with pytest.raises(ConnectionLost, match="may have been carried out"):
            client.create_interaction(**ASKED)
        assert len(asked) == 1
        asked.clear()
        assert client.create_interaction(**ASKED, idempotency_key="once").id == "int_1"
        assert [request.headers["Idempotency-Key"] for request in asked] == ["once", "once"]
        asked.clear()
        assert client.get_interaction("int_1").id == "int_1"
        assert len(asked) == 2


def test_nobody_there_is_told_as_that() -> None:
    with (
        InteractionsClient(base_url="http://127.0.0.1:9") as client,
        pytest.raises(ConnectionFailed, match="No connection to"),
    ):
        client.create_interaction(**ASKED)
