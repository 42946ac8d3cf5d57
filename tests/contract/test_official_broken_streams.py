"""Official clients see nothing of the troubles of a stream: text, steps and record are the undisturbed run's.

Every client meets every trouble on both databases, and every trouble comes at each of three places, though not to every
client at each.
"""

from __future__ import annotations

from itertools import cycle, islice

import pytest

from tests.contract.official import API_KEY, SDKS, Client, Json, Process, SdkError
from tests.contract.reading import MODEL, WEATHER, deltas_of, produced, streamed_text, types_of
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.upstreams import deployment, while_time_passes

ASKED: Json = {"model": MODEL, "input": "Say it slowly."}
CALLING: Json = {**ASKED, "tools": [WEATHER]}
TROUBLES = {
    "cut": "cut;after={after}",
    "cut inside an event": "cut;after={after};partial=true",
    "reset": "cut;after={after};reset=true",
    "clean early end": "end;after={after}",
    "error array in the body": "malformed_tail;after={after}",
    "error event": "error_event;after={after}",
    "missing usage": "missing_usage",
    "404 for a while": "cut;after={after},not_found_after_create;gets=2",
}
#: Events of upstream that come before a trouble: the first, some of a step, all but the last.
PLACES = (1, 6, -1)
#: Without cursors upstream is asked until it has ended; with them its stream is taken up.
WAYS = {"asked": "fragments;count=3", "resumed": "fragments;count=3,event_ids"}
DATABASES = ("sqlite", "postgres")
#: Each client each way, on the databases in turn; and where the first of the troubles comes.
EITHER_WAY = [
    pytest.param(sdk, DATABASES[(number + place) % 2], way, number + place, id=f"{sdk.name}-{way}")
    for number, sdk in enumerate(SDKS)
    for place, way in enumerate(WAYS)
]
#: What differs between two runs of one request.
_OWN = ("id", "created", "updated", "sdk_http_response", "sdkHttpResponse")


def _alike(interaction: Json) -> Json:
    return {name: value for name, value in interaction.items() if name not in _OWN}


@pytest.fixture(params=DATABASES)
def kept_in(request: pytest.FixtureRequest) -> str:
    """The URL of a running service on each database."""
    name = "service_url" if request.param == "sqlite" else "postgres_service_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def client(sdk_process: Process, kept_in: str) -> Client:
    """An official client of that service."""
    return Client(sdk_process, kept_in, API_KEY)


@pytest.mark.parametrize(
    ("sdk_process", "kept_in", "way", "first"), EITHER_WAY, indirect=["sdk_process", "kept_in"]
)
@pytest.mark.parametrize("asked", [ASKED, CALLING], ids=["text", "call"])
async def test_a_trouble_of_upstream_is_not_seen(client: Client, way: str, first: int, asked: Json) -> None:
    calm = client.having(headers={"x-emulator-behavior": WAYS[way]})
    whole = await calm.stream(**asked)
    stored = await client.get(_id(whole))
    places = islice(cycle(PLACES), first, None)
    for (trouble, form), place in zip(TROUBLES.items(), places, strict=False):
        fault = form.format(after=place if place > 0 else len(whole) + place)
        troubled = client.having(headers={"x-emulator-behavior": WAYS[way], "x-emulator-fault": fault})
        events = await troubled.stream(**asked)
        await _assert_not_seen(client, events, whole, stored, f"{trouble}: {fault}")


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


@pytest.mark.parametrize(
    ("sdk_process", "database_url", "way", "first"), EITHER_WAY, indirect=["sdk_process", "database_url"]
)
async def test_silence_and_the_cut_after_600_seconds_are_not_seen(
    sdk_process: Process, start_emulator: StartEmulator, start_gateway: StartGateway, way: str, first: int
) -> None:
    prompt = await start_emulator()
    # So slow that a stream brings five or six events at the most before it is cut.
    slow = await start_emulator(token_delay=120.0)
    impatient = await start_gateway(deployments=(deployment(prompt, MODEL, stream_timeout=0.3),))
    patient = await start_gateway(slow)
    wish = {"x-emulator-behavior": WAYS[way]}
    client = Client(sdk_process, impatient.url, API_KEY, headers=wish)
    whole = await client.stream(**ASKED)
    stored = await client.get(_id(whole))
    after = PLACES[first % len(PLACES)]
    fault = f"stall;after={after if after > 0 else len(whole) + after}"
    silent = client.having(headers={**wish, "x-emulator-fault": fault})
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
