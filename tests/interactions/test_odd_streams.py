"""Upstreams that depart from the contract in their streams: what was told is what is kept, whoever reads it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from service.store.records import USAGE_FINAL, USAGE_PARTIAL
from tests.support.gateway import LEGACY, STEPS, Gateway, eventually
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.store import query
from tests.support.upstreams import Script, sse

ID = "v1_odd"
USAGE = {"total_input_tokens": 3, "total_output_tokens": 5, "total_tokens": 8}
WHOLE_USAGE = {"total_input_tokens": 40, "total_output_tokens": 60, "total_tokens": 100}
NOT_FOUND = {"error": {"code": "not_found", "message": "Interaction not found."}}
OUTPUT = {"type": "model_output"}


def created(**members: Any) -> Json:
    return {
        "event_type": "interaction.created",
        "interaction": {"id": ID, "status": "in_progress", **members},
    }


def completed(**members: Any) -> Json:
    interaction = {"id": ID, "status": "completed", "usage": USAGE, **members}
    return {"event_type": "interaction.completed", "interaction": interaction}


def start(index: Any, step: Json = OUTPUT) -> Json:
    return {"event_type": "step.start", "index": index, "step": step}


def delta(index: Any, text: str, **members: Any) -> Json:
    return {
        "event_type": "step.delta",
        "index": index,
        "delta": {"type": "text", "text": text},
        **members,
    }


def stop(index: Any, **members: Any) -> Json:
    return {"event_type": "step.stop", "index": index, **members}


def output(text: str) -> Json:
    return {**OUTPUT, "content": [{"type": "text", "text": text}]}


def streaming(body: bytes, *copies: tuple[int, Json]) -> Script:
    """Answers every create with this stream, and what is asked about it with these in turn, and on with the last."""
    left = list(copies)

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and not request.path.endswith("cancel"):
            return web.Response(body=body, headers={"Content-Type": "text/event-stream"})
        status, copy = left.pop(0) if len(left) > 1 else left[0]
        return web.json_response(copy, status=status)

    return script


@pytest.fixture(name="serve")
def serve_fixture(start_scripted: StartScripted, start_gateway: StartGateway) -> Any:
    async def serve(body: bytes, copy: Json | None = None) -> Gateway:
        script = streaming(body, (404, NOT_FOUND) if copy is None else (200, copy))
        return await start_gateway(await start_scripted(script))

    return serve


async def test_an_id_that_only_the_last_event_tells_is_known(serve: Any) -> None:
    for events in ([start(0), delta(0, "Told."), stop(0)], []):
        gateway = await serve(sse(*events, completed(steps=[output("Told.")])))
        made = await gateway.stream(headers=STEPS)
        name = made.headers["x-interaction-id"]
        read = await gateway.got(name, headers=STEPS)
        assert read.text == "Told."
        assert read.headers["x-upstream-interaction-id"] == ID
        assert (await gateway.got(ID, headers=STEPS)).body == read.body


#: Ends that have no usage of their own; some are told in another form than upstream's.
ENDS: dict[str, Json] = {
    "completed": completed(usage=None),
    "without status": completed(usage=None, status=None),
    "in progress": completed(usage=None, status="in_progress"),
    "incomplete": {**completed(usage=None, status="incomplete"), "event_type": "interaction.incomplete"},
    "bare": {"event_type": "interaction.incomplete"},
}
BEFORE_THE_END: list[list[Json]] = [
    [created(usage=USAGE), start(0), delta(0, "Told."), stop(0)],
    [created(), start(0), delta(0, "Told.", metadata={"total_usage": USAGE}), stop(0)],
    [created(), start(0), delta(0, "Told."), stop(0, usage=USAGE)],
]
ASKED_AGAIN = {"usage_interval": 0.02, "claim_interval": 0.02}


async def usage_of(gateway: Gateway, name: str) -> tuple[int, int | None]:
    row = await gateway.database.row(name)
    return row["usage_state"], row["total_tokens"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("events", BEFORE_THE_END)
async def test_usage_that_came_before_the_end_is_not_taken_for_all_of_it(
    serve: Any, events: list[Json], end: str
) -> None:
    copy = {"id": ID, "status": "completed", "usage": WHOLE_USAGE, "steps": [output("Told.")]}
    gateway = await serve(sse(*events, ENDS[end]), copy)
    made = await gateway.stream(headers=STEPS)
    assert made.final["usage"] == WHOLE_USAGE
    assert (await gateway.got(made.id, headers=STEPS)).body["usage"] == WHOLE_USAGE
    assert await usage_of(gateway, made.id) == (USAGE_FINAL, 100)


@pytest.mark.parametrize("events", BEFORE_THE_END)
async def test_usage_that_came_before_the_end_is_a_part_where_nobody_can_be_asked(
    serve: Any, events: list[Json]
) -> None:
    gateway = await serve(sse(*events, completed(usage=None)))
    made = await gateway.stream(headers=STEPS, store=False)
    assert made.final["usage"] == USAGE
    assert await usage_of(gateway, made.id) == (USAGE_PARTIAL, 8)


@pytest.mark.parametrize(
    "first",
    [
        (404, NOT_FOUND),
        (503, NOT_FOUND),
        (200, {"id": ID, "status": "completed"}),
        (200, {"id": ID, "status": "in_progress", "usage": USAGE}),
    ],
)
@pytest.mark.parametrize("comes", [True, False])
async def test_usage_is_asked_for_again_and_in_the_end_what_was_told_is_a_part(
    start_scripted: StartScripted, start_gateway: StartGateway, first: tuple[int, Json], comes: bool
) -> None:
    whole = {"id": ID, "status": "completed", "usage": WHOLE_USAGE, "steps": [output("Told.")]}
    then = (200, whole) if comes else (404, NOT_FOUND)
    script = streaming(sse(*BEFORE_THE_END[2], completed(usage=None)), first, then)
    gateway = await start_gateway(await start_scripted(script), **ASKED_AGAIN)
    made = await gateway.stream(headers=STEPS)
    assert made.final["usage"] is None
    state, usage = (USAGE_FINAL, WHOLE_USAGE) if comes else (USAGE_PARTIAL, USAGE)

    async def is_settled() -> bool:
        return await usage_of(gateway, made.id) == (state, usage["total_tokens"])

    await eventually(is_settled)
    assert (await gateway.got(made.id, headers=STEPS)).body["usage"] == usage


@pytest.mark.parametrize(
    "events",
    [
        [start(0), delta(0, "One."), stop(0), created(), start(1), delta(1, "Two."), stop(1)],
        [start(0), delta(0, "One."), stop(0), start(0), delta(0, "Two."), stop(0)],
        [start(0), delta(0, "One."), start(0), delta(0, "Two."), stop(0)],
    ],
)
@pytest.mark.parametrize("copied", [True, False])
async def test_what_begins_twice_takes_nothing_back(serve: Any, events: list[Json], copied: bool) -> None:
    copy = {
        "id": ID,
        "status": "completed",
        "usage": USAGE,
        "steps": [output("One."), output("Two.")],
    }
    gateway = await serve(sse(created(), *events, completed()), copy if copied else None)
    made = await gateway.stream(headers=STEPS)
    read = await gateway.got(made.id, headers=STEPS)
    assert made.text == read.text == ("One.Two." if copied else "One.")
    assert (made.done, read.body["status"]) == ((True, "completed") if copied else (False, "failed"))


CALL = {"type": "function_call", "id": "call_1", "name": "get_weather"}


async def test_a_step_that_begins_twice_is_not_left_out_where_events_have_ids(serve: Any) -> None:
    arguments = {"type": "arguments_delta", "arguments": '{"city":"Oslo"}'}
    events = [
        created(),
        start(0),
        delta(0, "One."),
        stop(0),
        start(0, CALL),
        {"event_type": "step.delta", "index": 0, "delta": arguments},
        stop(0),
        completed(),
    ]
    numbered = [{**event, "event_id": f"e{place}"} for place, event in enumerate(events)]
    steps = [output("One."), {**CALL, "arguments": {"city": "Oslo"}}]
    gateway = await serve(sse(*numbered), {"id": ID, "status": "completed", "usage": USAGE, "steps": steps})
    made = await gateway.stream(headers=STEPS)
    assert made.done
    assert (await gateway.got(made.id, headers=STEPS)).body["steps"] == steps


@pytest.mark.parametrize("headers", [STEPS, LEGACY])
async def test_a_call_may_start_late(serve: Any, headers: dict[str, str]) -> None:
    first = {"type": "arguments_delta", "arguments": '{"city":'}
    second = {"type": "arguments_delta", "arguments": '"Oslo"}'}
    events = [
        created(),
        {"event_type": "step.delta", "index": 0, "delta": first},
        start(0, CALL),
        {"event_type": "step.delta", "index": 0, "delta": second},
        stop(0),
        completed(status="requires_action"),
    ]
    gateway = await serve(sse(*events))
    made = await gateway.stream(headers=headers)
    call = {**CALL, "arguments": {"city": "Oslo"}}
    assert (await gateway.got(made.id, headers=STEPS)).body["steps"] == [call]
    if headers is LEGACY:
        told = [event["delta"] for event in made.events if event["event_type"] == "content.delta"]
        assert told == [call]
        kinds = [event["event_type"] for event in made.events if event["event_type"].startswith("content")]
        assert kinds == ["content.start", "content.delta", "content.stop"]


async def test_a_thought_may_start_late(serve: Any) -> None:
    def summary(text: str) -> Json:
        return {"type": "text", "text": text}

    told = {"type": "thought_summary", "content": summary("First.")}
    late = {"type": "thought", "signature": "SIGNED", "summary": [summary("Second.")]}
    event = {"event_type": "step.delta", "index": 0, "delta": told}
    gateway = await serve(sse(created(), event, start(0, late), stop(0), completed()))
    made = await gateway.stream(headers=STEPS)
    (step,) = (await gateway.got(made.id, headers=STEPS)).body["steps"]
    assert step == {**late, "summary": [summary("First."), summary("Second.")]}


@pytest.mark.parametrize(
    "late", [OUTPUT, {**OUTPUT, "content": []}, {**output("Three."), "extra": {"kept": True}}]
)
async def test_a_delta_may_come_before_its_step(serve: Any, late: Json) -> None:
    events = [created(), delta(0, "One."), start(0, late), delta(0, "Two."), stop(0), completed()]
    gateway = await serve(sse(*events))
    made = await gateway.stream(headers=STEPS)
    (step,) = (await gateway.got(made.id, headers=STEPS)).body["steps"]
    texts = "".join(part["text"] for part in step["content"])
    assert sorted(texts.split(".")) == sorted(("One.Two." + ("Three." if "extra" in late else "")).split("."))
    assert step.get("extra") == late.get("extra")


SPELLINGS: dict[str, Any] = {"missing": None, "text": str, "fraction": float}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("headers", [STEPS, LEGACY, {}])
async def test_an_index_is_understood_however_it_is_written(
    serve: Any, spelling: str, headers: dict[str, str]
) -> None:
    spell = SPELLINGS[spelling]
    if spell is None:
        order = [start(0), delta(0, "a"), delta(0, "b"), stop(0), start(1), delta(1, "c"), stop(1)]
    else:
        order = [start(0), start(1), delta(0, "a"), delta(1, "c"), delta(0, "b"), stop(0), stop(1)]
    for event in order:
        if spell is None:
            del event["index"]
        else:
            event["index"] = spell(event["index"]) if spell is float else str(event["index"])
    gateway = await serve(sse(created(), *order, completed()))
    made = await gateway.stream(headers=headers)
    read = await gateway.got(made.id, headers=STEPS)
    assert [part["text"] for step in read.body["steps"] for part in step["content"]] == ["ab", "c"]
    assert sorted(made.text) == ["a", "b", "c"]
    again = await gateway.events(made.id, headers=headers)
    assert again.events == made.events


@pytest.mark.parametrize("status", ["in_progress", "paused"])
async def test_the_last_event_has_the_status_of_the_interaction(serve: Any, status: str) -> None:
    gateway = await serve(sse(created(), start(0), delta(0, "Told."), stop(0), completed(status=status)))
    made = await gateway.stream(headers=STEPS)
    read = await gateway.got(made.id, headers=STEPS)
    assert made.final["status"] == read.body["status"] == "completed"
    assert made.final["usage"] == USAGE


THOUGHT = {"type": "thought", "signature": "EXTRA"}


@pytest.mark.parametrize("headers", [STEPS, LEGACY])
async def test_steps_that_only_the_last_event_has_are_told_and_kept(
    serve: Any, headers: dict[str, str]
) -> None:
    further = [output("Told and more."), THOUGHT, output("The end.")]
    events = [created(), start(0), delta(0, "Told"), completed(steps=further)]
    gateway = await serve(sse(*events))
    made = await gateway.stream(headers=headers)
    assert made.text == "Told and more.The end."
    read = await gateway.got(made.id, headers=STEPS)
    assert read.body["steps"] == further


async def test_steps_of_the_last_event_that_say_otherwise_change_nothing(serve: Any) -> None:
    events = [created(), start(0), delta(0, "Told."), stop(0), completed(steps=[output("Otherwise.")])]
    gateway = await serve(sse(*events))
    made = await gateway.stream(headers=STEPS)
    assert (await gateway.got(made.id, headers=STEPS)).text == made.text == "Told."


@pytest.mark.parametrize("status", ["completed", "in_progress"])
@pytest.mark.parametrize("ends", [b"", b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("headers", [STEPS, LEGACY])
async def test_an_interaction_in_place_of_its_events_is_one(
    serve: Any, headers: dict[str, str], ends: bytes, status: str
) -> None:
    whole = {"id": ID, "status": "completed", "usage": USAGE, "steps": [output("All at once.")]}
    body = whole if status == "completed" else {"id": ID, "status": status}
    gateway = await serve(orjson.dumps(body, option=orjson.OPT_INDENT_2) + ends, whole)
    made = await gateway.stream(headers=headers)
    assert made.text == "All at once."
    read = await gateway.got(made.id, headers=STEPS)
    assert (read.text, read.body["usage"]) == ("All at once.", USAGE)
    assert read.headers["x-upstream-interaction-id"] == ID


async def test_what_still_runs_upstream_can_be_asked_for_by_whoever_comes_next(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    running = {"id": ID, "status": "in_progress"}
    whole = {"id": ID, "status": "completed", "usage": USAGE, "steps": [output("In the end.")]}
    over = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(body=orjson.dumps(running), headers={"Content-Type": "text/event-stream"})
        return web.json_response(whole if over.is_set() else running)

    gateway = await start_gateway(await start_scripted(script))
    reading = asyncio.create_task(gateway.stream(headers=STEPS))

    async def is_known() -> bool:
        rows = await query(gateway.database.url, "SELECT upstream_id, status FROM interactions")
        return rows == [(ID, "in_progress")]

    await eventually(is_known)
    over.set()
    made = await reading
    assert (made.text, made.final["status"]) == ("In the end.", "completed")


ERROR = {"code": 504, "message": "Deadline expired.", "status": "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("ends", [b"", b"\n\n"])
@pytest.mark.parametrize("tail", [[{"error": ERROR}], {"error": ERROR}])
async def test_an_error_that_a_stream_ends_with_is_told(serve: Any, tail: Any, ends: bytes) -> None:
    body = sse(created(), start(0), delta(0, "Told."), done=False) + orjson.dumps(tail) + ends
    gateway = await serve(body)
    made = await gateway.stream(headers=STEPS)
    read = await gateway.got(made.id, headers=STEPS)
    assert (read.body["status"], read.text) == ("failed", "Told.")
    assert "Deadline expired." in read.body["errors"][0]["message"]
    assert "Deadline expired." in made.events[-1]["error"]["message"]


async def test_an_error_event_may_be_a_text(serve: Any) -> None:
    body = sse(created(), start(0), delta(0, "Told."), {"event_type": "error", "error": "Out of quota."})
    gateway = await serve(body)
    made = await gateway.stream(headers=STEPS)
    read = await gateway.got(made.id, headers=STEPS)
    assert "Out of quota." in read.body["errors"][0]["message"]


@pytest.mark.parametrize("ends", [b"", b"\n", b"\r\n"])
async def test_the_last_event_may_lack_the_blank_line_behind_it(serve: Any, ends: bytes) -> None:
    body = sse(created(), start(0), delta(0, "Told."), stop(0), completed(), done=False)
    gateway = await serve(body.removesuffix(b"\n\n") + ends)
    made = await gateway.stream(headers=STEPS, store=False)
    assert (made.text, made.final["status"], made.final["usage"]) == ("Told.", "completed", USAGE)
