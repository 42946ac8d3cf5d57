"""Errors of a stream that may go on: told with what follows, or not at all where the stream can be taken up again."""

from __future__ import annotations

import pytest
from aiohttp import web

from service.interactions.arriving import Arrived
from service.interactions.withheld import Withheld
from tests.support.gateway import STEPS
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import sse

HICCUP: Json = {"event_type": "error", "error": {"code": "api_error", "message": "A hiccup"}}
BEGINNING: list[Json] = [
    {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}},
    {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "All is"}},
]
REST: list[Json] = [
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": " well"}},
    {"event_type": "step.stop", "index": 0},
    {"event_type": "interaction.completed", "interaction": {"id": "v1_a", "status": "completed"}},
]
WHOLE: Json = {
    "id": "v1_a",
    "status": "completed",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": "All is well"}]}],
}


@pytest.mark.parametrize("many", [1, 2, 5])
async def test_errors_that_end_a_stream_are_not_told_when_the_interaction_goes_on(
    start_scripted: StartScripted, start_gateway: StartGateway, many: int
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(WHOLE)
        body = sse(*BEGINNING, *[HICCUP] * many, done=False)
        return web.Response(body=body, content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types == [event["event_type"] for event in (*BEGINNING, *REST)]
    assert (streamed.text, streamed.final["status"]) == ("All is well", "completed")
    assert streamed.events == (await gateway.events(streamed.id, headers=STEPS)).events


@pytest.mark.parametrize("many", [1, 2, 9, 20])
async def test_errors_that_a_stream_goes_on_behind_are_told_in_their_place(
    start_scripted: StartScripted, start_gateway: StartGateway, many: int
) -> None:
    events = [*BEGINNING, *[HICCUP] * many, *REST]

    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(body=sse(*events), content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types == [event["event_type"] for event in events]
    assert streamed.final["status"] == "completed"


async def test_all_errors_of_what_upstream_has_lost_are_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        body = sse(*BEGINNING, HICCUP, HICCUP, done=False)
        return web.Response(body=body, content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream(headers=STEPS, store=False)
    assert streamed.types[-2:] == ["error", "error"]
    row = await gateway.database.row(streamed.id)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", "api_error", "A hiccup")


def test_what_could_come_again_with_each_connection_is_not_told() -> None:
    following = Arrived(REST[0])
    for cursor, resumed, told in ((None, False, 1), ("u3", False, 0), (None, True, 0)):
        withheld = Withheld()
        withheld.withhold(Arrived(HICCUP))
        assert len(withheld.before(following, cursor, resumed=resumed)) == told
        assert not withheld
