"""Upstreams that depart from the contract in their streams: what was told is what is kept, whoever reads it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import web

from service.store.records import USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL
from tests.support.gateway import LEGACY, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
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


def streaming(body: bytes, status: int = 404, copy: Json = NOT_FOUND) -> Script:
    """Answers every create with this stream, and what is asked about it with a status and a copy."""

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and not request.path.endswith("cancel"):
            return web.Response(body=body, headers={"Content-Type": "text/event-stream"})
        return web.json_response(copy, status=status)

    return script


@pytest.fixture(name="serve")
def serve_fixture(start_scripted: StartScripted, start_gateway: StartGateway) -> Any:
    async def serve(body: bytes, copy: Json | None = None) -> Gateway:
        script = streaming(body) if copy is None else streaming(body, 200, copy)
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


@pytest.mark.parametrize("known", ["whole", "gone", "later"])
@pytest.mark.parametrize(
    "events",
    [
        [created(usage=USAGE), start(0), delta(0, "Told."), stop(0)],
        [created(), start(0), delta(0, "Told.", metadata={"total_usage": USAGE}), stop(0)],
        [created(), start(0), delta(0, "Told."), stop(0, usage=USAGE)],
    ],
)
async def test_usage_that_came_before_the_end_is_no_more_than_that(
    start_scripted: StartScripted, start_gateway: StartGateway, events: list[Json], known: str
) -> None:
    whole = {"id": ID, "status": "completed", "usage": WHOLE_USAGE, "steps": [output("Told.")]}
    copies: dict[str, tuple[int, Json]] = {
        "whole": (200, whole),
        "gone": (404, NOT_FOUND),
        "later": (503, NOT_FOUND),
    }
    usage = {"whole": WHOLE_USAGE, "gone": USAGE, "later": None}[known]
    state = {"whole": USAGE_FINAL, "gone": USAGE_PARTIAL, "later": USAGE_MISSING}[known]
    script = streaming(sse(*events, completed(usage=None)), *copies[known])
    gateway = await start_gateway(await start_scripted(script))
    made = await gateway.stream(headers=STEPS)
    assert made.final["usage"] == usage
    assert (await gateway.got(made.id, headers=STEPS)).body.get("usage") == usage
    row = await gateway.database.row(made.id)
    assert (row["usage_state"], row["total_tokens"]) == (state, usage and usage["total_tokens"])


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


@pytest.mark.parametrize("headers", [STEPS, LEGACY])
async def test_a_whole_interaction_in_place_of_its_events_is_one(serve: Any, headers: dict[str, str]) -> None:
    whole = {"id": ID, "status": "completed", "usage": USAGE, "steps": [output("All at once.")]}
    gateway = await serve(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    made = await gateway.stream(headers=headers)
    assert made.text == "All at once."
    read = await gateway.got(made.id, headers=STEPS)
    assert (read.text, read.body["usage"]) == ("All at once.", USAGE)
    assert read.headers["x-upstream-interaction-id"] == ID


ERROR = {"code": 504, "message": "Deadline expired.", "status": "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("tail", [[{"error": ERROR}], {"error": ERROR}])
async def test_an_error_that_a_stream_ends_with_is_told(serve: Any, tail: Any) -> None:
    gateway = await serve(sse(created(), start(0), delta(0, "Told."), done=False) + orjson.dumps(tail))
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
