"""What this service does not know passes through and is stored untouched; numbers and text stay exact."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json, Reply
from tests.support.upstreams import Emulated, Scripted, answering, sse

#: Members, types and values that no schema knows; the numbers are beyond 64 bits and beyond a double's digits.
STRANGE = (
    b'{"type":"hologram","id":"h1","payload":{"depth":[1,2,{"x":null}],"size":123456789012345678901234567890},'
    b'"ratio":0.30000000000000004,"tiny":5e-324,"\\u2028":"\xe2\x80\xa8","empty":{},"list":[]}'
)
ANSWER = (
    b'{"id":"v1_strange","object":"interaction","status":"completed","model":"gemini-2.5-flash","new_member":'
    b'{"a":[]},"serial":9223372036854775808,"steps":[' + STRANGE + b',{"type":"model_output","content":['
    b'{"type":"text","text":"One\xe2\x80\xa8two\xc2\x85three\\u2028four \xf0\x9f\x98\x80"},'
    b'{"type":"smell","data":"cm9zZQ=="}]}],"usage":{"total_tokens":7,"smelled_tokens":2}}'
)


@pytest.fixture
async def strange(start_scripted: StartScripted) -> Scripted:
    """An upstream of the future."""
    return await start_scripted(answering(ANSWER))


def without(body: Json, *names: str) -> Json:
    return {name: value for name, value in body.items() if name not in names}


def read(raw: bytes) -> Any:
    """JSON with integers of any size."""
    return json.loads(raw)


async def test_an_answer_is_untouched_but_for_its_id(strange: Scripted, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(strange)
    made = await gateway.post({"model": MODEL, "input": "Hello"}, **STEPS)
    assert without(read(made.raw), "id") == without(read(ANSWER), "id")
    assert await gateway.database.response(made.id) == ANSWER
    again = await gateway.got(made.id, headers=STEPS)
    assert read(again.raw) == read(made.raw)


async def test_a_legacy_answer_keeps_what_it_can_carry(
    strange: Scripted, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(strange)
    made = await gateway.post({"model": MODEL, "input": "Hello"}, **LEGACY)
    body, sent = read(made.raw), read(ANSWER)
    assert body["outputs"] == [sent["steps"][0], *sent["steps"][1]["content"]]
    assert (body["serial"], body["new_member"]) == (sent["serial"], sent["new_member"])
    assert body["usage"]["smelled_tokens"] == 2


async def test_strange_steps_are_rebuilt_verbatim(strange: Scripted, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(strange, history="local")
    first = await gateway.ask("One")
    await gateway.ask("Two", previous_interaction_id=first.id)
    sent = read(strange.bodies[-1])
    assert sent["input"][1:-1] == read(ANSWER)["steps"]


async def test_a_request_is_untouched_but_for_its_model(
    strange: Scripted, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(strange)
    body = (
        b'{"model": "gemini-2.5-flash",\n "input":[' + STRANGE + b'], "later": 18446744073709551616, '
        b'"tools":[{"type":"teleport","range":1e400000}], "metadata":null}'
    ).replace(b"1e400000", b"1e300")
    made = await gateway.post(body)
    # Nothing had to change, so these are the caller's own bytes.
    assert strange.bodies == [body]
    assert await gateway.database.request(made.body["id"]) == body
    aliased = body.replace(b'"gemini-2.5-flash"', b'"gemini/gemini-2.5-flash"')
    again = await gateway.post(aliased)
    assert read(strange.bodies[-1]) == read(body)
    assert await gateway.database.request(again.body["id"]) == aliased


async def test_strange_events_pass_and_what_they_tell_is_kept(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    events: list[Json | bytes] = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_s", "status": "in_progress"}},
        b'{"event_type":"weather.changed","serial":123456789012345678901234567890,"text":"a\xe2\x80\xa8b"}',
        {"event_type": "step.start", "index": 0, "step": {"type": "hologram", "id": "h1"}, "hint": 1},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "beam", "colour": "re", "power": 1}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "beam", "colour": "d", "power": 2}},
        {"event_type": "step.stop", "index": 0, "step_usage": {"beams": 2}},
        {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
        b'{"event_type":"step.delta","index":1,"delta":{"type":"text","text":"One\xe2\x80\xa8two\xc2\x85"}}',
        {"event_type": "step.stop", "index": 1},
        {
            "event_type": "interaction.completed",
            "interaction": {"id": "v1_s", "status": "completed", "mood": "fine"},
        },
    ]
    upstream = await start_scripted(answering(sse(*events), content_type="text/event-stream"))
    gateway = await start_gateway(upstream)
    streamed = await gateway.stream(headers=STEPS)
    # Events without ids of upstream travel as its own bytes, with ours behind them.
    for seq, event in enumerate(events[1:-1], 2):
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        assert b'data: %b,"event_id":"evt_%d"}\n\n' % (data[:-1], seq) in streamed.raw
    stored = await gateway.got(streamed.id)
    hologram, output = stored.steps
    assert (hologram["id"], hologram["colour"], hologram["power"]) == ("h1", "red", 2)
    assert output["content"] == [{"type": "text", "text": "One\u2028two\x85"}]
    assert stored.body["mood"] == "fine"


async def test_the_emulators_strangeness_is_kept(gateway: Gateway) -> None:
    streamed = await gateway.stream("Tell me", headers=STEPS, wish="unknown,u2028,story")
    stored = await gateway.got(streamed.id, headers=STEPS)
    made = await gateway.post(
        {"model": MODEL, "input": "Tell me"}, **STEPS, x_emulator_behavior="unknown,u2028,story"
    )
    assert "\u2028" in stored.text
    assert any(step["type"] == "emulated_future_step" for step in stored.steps)
    assert any(kind.startswith("emulated") for kind in streamed.types)
    assert stored.steps == made.steps
    assert (await gateway.events(streamed.id, headers=STEPS)).text == streamed.text


@pytest.mark.parametrize(
    "content",
    [
        "One content as a string",
        {"type": "text", "text": "One content object"},
        [{"type": "text", "text": "A list"}, {"type": "text", "text": "of contents"}],
        [{"type": "user_input", "content": "A step with a bare string"}],
        [{"type": "user_input", "content": [{"type": "text", "text": "A step", "annotations": None}]}],
    ],
    ids=["string", "object", "contents", "bare step", "nulls"],
)
async def test_every_shape_of_input_is_sent_as_it_is(
    gateway: Gateway, upstream: Emulated, content: Any
) -> None:
    made = await gateway.ask(content)
    assert upstream.creates[0]["input"] == content
    assert (await gateway.got(made.id, include_input="true")).body["input"] == content


async def test_numbers_in_function_results_stay_exact(gateway: Gateway, upstream: Emulated) -> None:
    schema = {"type": "object", "properties": {"serial": {"const": 2**53 + 1}}}
    tools = [{"type": "function", "name": "look_up", "parameters": schema}]
    asked = await gateway.ask("Which?", tools=tools)
    call: Json = asked.steps[-1]
    assert call["arguments"] == {"serial": 2**53 + 1}
    result = {"type": "function_result", "call_id": call["id"], "name": "look_up", "result": {"n": 2**63 - 1}}
    told: Reply = await gateway.ask([result], previous_interaction_id=asked.id, tools=tools)
    assert str(2**63 - 1) in told.text
    assert upstream.creates[-1]["input"][0]["result"] == {"n": 2**63 - 1}
