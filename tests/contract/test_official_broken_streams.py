"""Official clients see nothing of the troubles of a stream: text, steps and record are the undisturbed run's."""

from __future__ import annotations

import pytest

from tests.contract.official import Client, Json, SdkError
from tests.contract.reading import MODEL, WEATHER, deltas_of, produced, streamed_text, types_of

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
        assert "error" not in types_of(events), trouble
        assert streamed_text(events) == streamed_text(whole), trouble
        ids = [event["event_id"] for event in events]
        assert len(set(ids)) == len(ids), trouble
        assert _alike(events[-1]["interaction"]) == _alike(whole[-1]["interaction"]), trouble
        read = await client.get(_id(events))
        assert produced(read) == produced(stored), trouble
        assert _alike(read) == _alike(stored), trouble
        assert await client.get_stream(_id(events)) == events, trouble


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
