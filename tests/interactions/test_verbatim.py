"""What upstream has made is sent again as it came, whatever it is; but a thought that upstream would refuse is not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import web

from service.interactions.rebuild import steps_of_links
from service.store.records import Link, now
from service.wire import ids
from tests.interactions.conversations import said
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json, Reply, Streamed
from tests.support.upstreams import Scripted, sse

LOCAL = {"x-interactions-history": "local"}
CALL: Json = {"type": "function_call", "id": "c1", "name": "f", "arguments": {"at": [1, None, 2.5]}}
OUTPUT: Json = {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]}
SIGNED: Json = {"type": "thought", "signature": "c2lnbmVk"}
UNSIGNED: Json = {"type": "thought", "signature": ""}
SUMMARY: Json = {**UNSIGNED, "summary": [{"type": "text", "text": "Well"}]}
#: Types and members that no schema has, at every level, with values that are easily lost.
UNKNOWN: list[Json] = [
    {"type": "novelty", "blob": {"deep": [1, None, 2.50, 1e300, {"": ""}], "none": None}, "text": "\u2028"},
    {**SIGNED, "weight": 0.1, "signature_version": 2},
    {"type": "novelty_call", "id": "n1", "arguments": {}, "signature": "c2ln", "later": []},
    {"type": "novelty_result", "call_id": "n1", "result": False},
    {
        "type": "model_output",
        "mood": "calm",
        "content": [
            {
                "type": "text",
                "text": "Yes.",
                "annotations": [{"type": "of_tomorrow", "at": -1}],
                "tone": None,
            },
            {"type": "hologram", "beams": [[0, 1], []], "mime_type": "model/hologram"},
        ],
    },
    {**CALL, "priority": 1, "signature": "c2lnbmVk"},
]
#: What upstream has made, and what of it is sent again.
ANSWERS: dict[str, tuple[list[Json], list[Json]]] = {
    "unknown": (UNKNOWN, UNKNOWN),
    "a thought without a signature": ([SUMMARY, OUTPUT], [OUTPUT]),
    "such a thought before a call": ([UNSIGNED, CALL], [UNSIGNED, CALL]),
    "such a thought at the end": ([SIGNED, OUTPUT, UNSIGNED], [SIGNED, OUTPUT]),
    "several of them": ([UNSIGNED, SUMMARY, CALL, UNSIGNED, OUTPUT], [SUMMARY, CALL, OUTPUT]),
    "a thought that has none at all": ([{"type": "thought"}, OUTPUT], [{"type": "thought"}, OUTPUT]),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_was_made_is_added_to_what_was_said(answer: str) -> None:
    made, sent = ANSWERS[answer]
    assert links_steps(request={"model": MODEL, "input": "One apple"}, made=made) == [
        said("One apple"),
        *sent,
    ]


def test_what_the_client_said_is_not_judged() -> None:
    history = [said("One apple"), UNSIGNED, OUTPUT, said("And now?")]
    assert links_steps(request={"model": MODEL, "input": history}, made=[OUTPUT]) == [*history, OUTPUT]


def links_steps(*, request: Json, made: list[Json]) -> list[Json]:
    """What one link adds to a conversation."""
    response = orjson.dumps({"status": "completed", "steps": made})
    link = Link(ids.mint(), "completed", None, False, now(), "d", orjson.dumps(request), response)
    ((_, steps),) = steps_of_links([link], for_agent=False)
    return steps


@pytest.fixture(name="scripted")
async def scripted_fixture(start_scripted: StartScripted) -> Scripted:
    """An upstream that makes the steps that its caller names in the system instruction."""

    async def script(request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        made, _ = ANSWERS[body.get("system_instruction", "unknown")]
        told = {"id": f"v1_{ids.mint().hex()}", "status": "completed", "usage": {"total_tokens": 1}}
        if body.get("stream"):
            return web.Response(body=sse(*_events(made, told)), content_type="text/event-stream")
        return web.json_response({**told, "steps": made})

    return await start_scripted(script)


def _events(made: list[Json], told: Json) -> list[Json]:
    """A stream that tells every step whole."""
    events: list[Json] = [
        {"event_type": "interaction.created", "interaction": {**told, "status": "in_progress"}}
    ]
    for index, step in enumerate(made):
        events.append({"event_type": "step.start", "index": index, "step": step})
        events.append({"event_type": "step.stop", "index": index})
    return [*events, {"event_type": "interaction.completed", "interaction": told}]


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_upstream_gets_it_again_as_it_came(
    scripted: Scripted, start_gateway: StartGateway, streamed: bool
) -> None:
    gateway = await start_gateway(scripted)
    for answer, (made, sent) in ANSWERS.items():
        first = await _asked(gateway, streamed, system_instruction=answer)
        assert (await gateway.got(first.id)).body["steps"] == made
        await gateway.post({"model": MODEL, "input": "And?", "previous_interaction_id": first.id}, **LOCAL)
        assert orjson.loads(scripted.bodies[-1])["input"] == [said("One apple"), *sent, said("And?")], answer


async def _asked(gateway: Gateway, streamed: bool, **members: Any) -> Reply | Streamed:
    if streamed:
        return await gateway.stream("One apple", **members)
    return await gateway.ask("One apple", **members)


@pytest.mark.parametrize("status", ["in_progress", "paused", None])
async def test_an_answer_that_nobody_can_ask_for_again_is_told_as_it_is_kept(
    start_scripted: StartScripted, start_gateway: StartGateway, status: str | None
) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(
            body=orjson.dumps({"status": status, "steps": [OUTPUT]}), content_type="application/json"
        )

    gateway = await start_gateway(await start_scripted(script))
    told = await gateway.create()
    kept = await gateway.got(told.body["id"])
    assert told.body["status"] == kept.body["status"] == ("incomplete" if status else "completed")
