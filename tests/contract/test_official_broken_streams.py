"""Official clients see nothing of the troubles of a stream: text, steps and record are the undisturbed run's."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.contract.official import API_KEY, Client, Json, Process, SdkError
from tests.contract.reading import MODEL, WEATHER, deltas_of, produced, streamed_text, types_of
from tests.support.gateways import StartEmulator, gateway_starter
from tests.support.upstreams import deployment, while_time_passes

ASKED: Json = {"model": MODEL, "input": "Say it slowly."}
CALLING: Json = {**ASKED, "tools": [WEATHER]}
TROUBLES = {
    "cut": "cut;after=6",
    "cut inside an event": "cut;after=6;partial=true",
    "reset": "cut;after=6;reset=true",
    "clean early end": "end;after=6",
    "error array in the body": "malformed_tail;after=6",
    "error event": "error_event;after=6",
    "missing usage": "missing_usage",
    "404 for a while": "cut;after=6,not_found_after_create;gets=2",
}
#: Without cursors upstream is asked until it has ended; with them its stream is taken up.
WAYS = {"asked": "fragments;count=3", "resumed": "fragments;count=3,event_ids"}
#: What differs between two runs of one request.
_OWN = ("id", "created", "updated", "sdk_http_response", "sdkHttpResponse")


def _alike(interaction: Json) -> Json:
    return {name: value for name, value in interaction.items() if name not in _OWN}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", [ASKED, CALLING], ids=["text", "call"])
async def test_a_trouble_of_upstream_is_not_seen(client: Client, way: str, asked: Json) -> None:
    calm = client.having(headers={"x-emulator-behavior": WAYS[way]})
    whole = await calm.stream(**asked)
    stored = await client.get(_id(whole))
    for trouble, fault in TROUBLES.items():
        troubled = client.having(headers={"x-emulator-behavior": WAYS[way], "x-emulator-fault": fault})
        events = await troubled.stream(**asked)
        await _assert_not_seen(client, events, whole, stored, trouble)


async def _assert_not_seen(
    client: Client, events: list[Json], whole: list[Json], stored: Json, trouble: str
) -> None:
    assert "error" not in types_of(events), trouble
    assert streamed_text(events) == streamed_text(whole), trouble
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids), trouble
    assert _alike(events[-1]["interaction"]) == _alike(whole[-1]["interaction"]), trouble
    read = await client.get(_id(events))
    assert produced(read) == produced(stored), trouble
    assert _alike(read) == _alike(stored), trouble
    assert await client.get_stream(_id(events)) == events, trouble


@pytest.mark.parametrize("way", WAYS)
async def test_silence_and_the_cut_after_600_seconds_are_not_seen(
    sdk_process: Process, running: AsyncExitStack, start_emulator: StartEmulator, sqlite_url: str, way: str
) -> None:
    start_gateway = gateway_starter(running, sqlite_url)
    prompt = await start_emulator()
    # So slow that a stream brings five or six events at the most before it is cut.
    slow = await start_emulator(token_delay=120.0)
    impatient = await start_gateway(deployments=(deployment(prompt, MODEL, stream_timeout=0.3),))
    patient = await start_gateway(slow)
    wish = {"x-emulator-behavior": WAYS[way]}
    client = Client(sdk_process, impatient.url, API_KEY, headers=wish)
    whole = await client.stream(**ASKED)
    stored = await client.get(_id(whole))
    silent = client.having(headers={**wish, "x-emulator-fault": "stall;after=6"})
    await _assert_not_seen(client, await silent.stream(**ASKED), whole, stored, "silence")
    before_slow = client.having(base_url=patient.url)
    events = await while_time_passes(slow, before_slow.stream(**ASKED), 60.0)
    await _assert_not_seen(before_slow, events, whole, stored, "the cut after 600 seconds")
    attached = [seen for seen in slow.calls("GET") if "last_event_id" in seen["query"]]
    assert bool(attached) == (way == "resumed")


async def test_a_client_that_left_resumes_by_the_id_of_the_last_event(client: Client) -> None:
    calm = client.having(headers={"x-emulator-behavior": "story,fragments;count=2"})
    events = await calm.stream(**ASKED)
    assert len(deltas_of(events, "text")) >= 3
    for position in range(0, len(events), 3):
        rest = await client.get_stream(_id(events), last_event_id=events[position]["event_id"])
        assert rest == events[position + 1 :]
    with pytest.raises(SdkError) as refused:
        await client.get_stream(_id(events), last_event_id="evt_999")
    assert refused.value.status == 400
    assert "evt_999" in refused.value.message


async def test_a_loss_is_seen(client: Client) -> None:
    lost = client.having(headers={"x-emulator-fault": "cut;after=6"})
    with pytest.raises(SdkError) as raised:
        await lost.stream(**ASKED, store=False)
    events = raised.value.events
    assert types_of(events)[-1] == "error"
    assert events[-1]["error"]["message"]


def _id(events: list[Json]) -> str:
    interaction_id: str = events[-1]["interaction"]["id"]
    return interaction_id
