"""Faults on demand."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import ClientError, ClientPayloadError, ClientResponse, ServerDisconnectedError

from tests.emulator.client import MODEL, Json, Start, Upstream, events_in, streamed_text

BODY: Json = {"model": MODEL, "input": "Hello"}


async def post(upstream: Upstream, fault: str, **members: object) -> ClientResponse:
    return await upstream.post({**BODY, **members}, x_emulator_fault=fault)


async def stream(upstream: Upstream, fault: str) -> bytes:
    response = await post(upstream, fault, stream=True)
    assert response.status == 200
    return await response.read()


async def until_cut(response: ClientResponse) -> bytes:
    """What arrives before the body is aborted."""
    received = b""
    async with response:
        try:
            while chunk := await response.content.readany():
                received += chunk
        except ClientPayloadError:
            return received
    raise AssertionError("the body ended politely")


async def made(upstream: Upstream) -> int:
    count: int = (await upstream.admin("GET", "interactions"))["count"]
    return count


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (429, "rate_limit_exceeded"),
        (500, "api_error"),
        (503, "service_unavailable"),
        (504, "deadline_exceeded"),
    ],
)
async def test_a_status_in_the_shape_of_this_api(upstream: Upstream, code: int, name: str) -> None:
    response = await post(upstream, f"status;code={code}")
    assert response.status == code
    assert (await response.json())["error"]["code"] == name
    assert "Retry-After" not in response.headers
    assert await made(upstream) == 0


async def test_a_quota_error_in_the_classic_shape(upstream: Upstream) -> None:
    response = await post(upstream, "status;code=429;shape=classic;retry_after=34;message=Slow down")
    (entry,) = await response.json()
    assert entry["error"]["code"] == 429
    assert entry["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert entry["error"]["message"] == "Slow down"
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"} in entry["error"][
        "details"
    ]
    assert response.headers["Retry-After"] == "34"


async def test_a_delay_can_be_in_the_body_alone(upstream: Upstream) -> None:
    response = await post(upstream, "status;code=429;shape=classic;retry_delay=1.5")
    assert "Retry-After" not in response.headers
    assert b'"retryDelay":"1.5s"' in await response.read()


async def test_a_refused_request_can_have_been_carried_out(upstream: Upstream) -> None:
    assert (await post(upstream, "status;code=503;done=true")).status == 503
    assert await made(upstream) == 1


async def test_a_page_of_html(upstream: Upstream) -> None:
    response = await post(upstream, "html;code=502")
    assert (response.status, response.content_type) == (502, "text/html")


async def test_a_broken_body_and_an_empty_one(upstream: Upstream) -> None:
    response = await post(upstream, "broken_json")
    assert response.status == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(await response.read())
    empty = await post(upstream, "empty")
    assert (empty.status, await empty.read()) == (200, b"")
    assert await made(upstream) == 2


async def test_a_reset_before_the_request_is_read(upstream: Upstream) -> None:
    with pytest.raises((ServerDisconnectedError, ClientError, ConnectionError)):
        await post(upstream, "reset_before")
    assert await made(upstream) == 0
    (seen,) = (await upstream.admin("GET", "requests"))["requests"]
    assert (seen["body"], seen["status"]) == (None, None)


async def test_a_reset_after_the_request_was_carried_out(upstream: Upstream) -> None:
    with pytest.raises((ServerDisconnectedError, ClientError, ConnectionError)):
        await post(upstream, "reset_after")
    assert await made(upstream) == 1
    (seen,) = (await upstream.admin("GET", "requests"))["requests"]
    assert seen["body"] == BODY
    assert seen["interaction"].startswith("v1_")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_reset_after_the_headers(upstream: Upstream, streamed: bool) -> None:
    with pytest.raises((ClientPayloadError, ClientError, ConnectionError)):
        await (await post(upstream, "reset_headers", stream=streamed)).read()
    assert await made(upstream) == 1


async def test_a_stream_cut_after_some_events(upstream: Upstream) -> None:
    response = await post(upstream, "cut;after=4", stream=True)
    received = await until_cut(response)
    assert len(events_in(received)) == 4
    assert await made(upstream) == 1


async def test_a_stream_cut_inside_an_event(upstream: Upstream) -> None:
    response = await post(upstream, "cut;after=4;partial=true", stream=True)
    received = await until_cut(response)
    whole, _, rest = received.rpartition(b"\n\n")
    assert len(events_in(whole)) == 4
    assert rest


async def test_a_stream_that_ends_politely_and_early(upstream: Upstream) -> None:
    raw = await stream(upstream, "end;after=5")
    assert len(events_in(raw)) == 5
    assert b"[DONE]" not in raw


async def test_a_stream_without_done(upstream: Upstream) -> None:
    raw = await stream(upstream, "no_done")
    assert events_in(raw)[-1]["event_type"] == "interaction.completed"
    assert b"[DONE]" not in raw


async def test_a_stream_reset_after_some_events(upstream: Upstream) -> None:
    response = await post(upstream, "cut;after=4;reset=true", stream=True)
    with pytest.raises(ClientError):
        await response.read()
    assert await made(upstream) == 1


async def test_a_stream_that_falls_silent(upstream: Upstream) -> None:
    response = await post(upstream, "stall;after=4", stream=True)
    received = b""
    async with response:
        while len(events_in(received)) < 4:
            received += await response.content.readany()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await response.content.readany()
    assert len(events_in(received)) == 4


async def test_a_malformed_tail(upstream: Upstream) -> None:
    raw = await stream(upstream, "malformed_tail;after=4")
    assert raw.rpartition(b"\n\n")[2].startswith(b'[{"error":{')


async def test_an_error_event(upstream: Upstream) -> None:
    events = events_in(await stream(upstream, "error_event;after=4;code=api_error;message=Oops"))
    assert events[4:] == [{"error": {"message": "Oops", "code": "api_error"}, "event_type": "error"}]


async def test_events_without_their_type(upstream: Upstream) -> None:
    raw = await stream(upstream, "missing_event_type")
    assert b"event: interaction.created" in raw
    assert b"event_type" not in raw


async def test_lines_that_end_in_crlf(upstream: Upstream) -> None:
    raw = await stream(upstream, "crlf")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.endswith(b"data: [DONE]\r\n\r\n")


async def test_comments_between_events(upstream: Upstream) -> None:
    assert b": keep-alive\n\nevent: " in await stream(upstream, "comments")


async def test_a_body_that_trickles_is_whole(upstream: Upstream) -> None:
    slow = await (await post(upstream, "trickle;bytes=200;seconds=0.001")).json()
    assert slow["steps"] == (await upstream.create("Hello"))["steps"]
    raw = await stream(upstream, "trickle;bytes=500;seconds=0.001")
    assert raw.endswith(b"[DONE]\n\n")


async def test_usage_that_comes_late(upstream: Upstream) -> None:
    answer = await (await post(upstream, "missing_usage;gets=2")).json()
    assert "usage" not in answer
    shown = ["usage" in await upstream.get(answer["id"]) for _ in range(3)]
    assert shown == [False, False, True]
    events = events_in(await stream(upstream, "missing_usage;seconds=60"))
    assert "usage" not in events[-1]["interaction"]
    name = events[-1]["interaction"]["id"]
    assert "usage" not in await upstream.get(name)
    upstream.clock.advance(61)
    assert "usage" in await upstream.get(name)


async def test_a_new_interaction_that_cannot_be_found_yet(upstream: Upstream) -> None:
    for fault, moves in (
        ("not_found_after_create;gets=2", False),
        ("not_found_after_create;seconds=30", True),
    ):
        name = (await (await post(upstream, fault)).json())["id"]
        path = f"/v1/interactions/{name}"
        assert [(await upstream.session.get(path)).status for _ in range(2)] == [404, 404]
        if moves:
            upstream.clock.advance(31)
        assert (await upstream.session.get(path)).status == 200


@pytest.mark.parametrize(("code", "status"), [("404", 404), ("400", 400), ("410", 410)])
async def test_a_stale_reference(upstream: Upstream, code: str, status: int) -> None:
    name = (await upstream.create())["id"]
    response = await post(upstream, f"stale;code={code}", previous_interaction_id=name)
    assert response.status == status
    headers = {"x-emulator-fault": f"stale;code={code}"}
    assert (await upstream.session.get(f"/v1/interactions/{name}", headers=headers)).status == status
    assert (await upstream.get(name))["id"] == name


async def test_an_interaction_that_is_lost_at_once(upstream: Upstream) -> None:
    name = (await (await post(upstream, "forget")).json())["id"]
    assert (await upstream.session.get(f"/v1/interactions/{name}")).status == 404


async def test_flat_outputs(upstream: Upstream) -> None:
    answer = await (await post(upstream, "flat_outputs")).json()
    assert "steps" not in answer
    assert answer["outputs"][-1]["type"] == "text"
    song = await upstream.create("A song", model="lyria-3-pro-preview")
    assert [part["type"] for part in song["outputs"]] == ["text", "audio"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("flat_outputs", []),
        ("flat_outputs;thoughts=1", ["thought"]),
        ("flat_outputs;repeated=1", ["thought", "model_output"]),
    ],
)
async def test_streamed_flat_outputs(upstream: Upstream, fault: str, told: list[str]) -> None:
    events = events_in(await (await post(upstream, fault, stream=True)).read())
    assert [event["step"]["type"] for event in events if event["event_type"] == "step.start"] == told
    assert [output["type"] for output in events[-1]["interaction"]["outputs"]] == ["text"]


async def test_faults_and_clients_that_leave_are_not_errors_of_the_emulator(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = await start(token_delay=0.01)
    for fault in ("reset_before", "reset_after", "reset_headers"):
        with pytest.raises((ServerDisconnectedError, ClientError, ConnectionError)):
            await (await post(upstream, fault)).read()
    await until_cut(await post(upstream, "cut;after=2", stream=True))
    left = await post(upstream, "comments", stream=True)
    await left.content.readany()
    left.close()
    await asyncio.sleep(0.1)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_shorter_time_limit(upstream: Upstream) -> None:
    name = (await upstream.create("Hello", background=True, wish="zombie"))["id"]
    headers = {"x-emulator-fault": "limit;seconds=0.05;tail=abort"}
    response = await upstream.session.get(f"/v1/interactions/{name}?stream=true", headers=headers)
    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_latency_delays_the_answer(start: Start) -> None:
    upstream = await start(latency=0.01)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await post(upstream, "latency;seconds=0.02")
    assert loop.time() - before >= 0.03


async def test_several_faults_at_once(upstream: Upstream) -> None:
    raw = await stream(upstream, "crlf, end;after=3")
    assert raw.count(b"\r\n\r\n") == 3


@pytest.mark.parametrize("wish", ["nonsense", "cut;before=3", "cut;after=soon"])
async def test_a_directive_that_does_not_exist_is_refused(upstream: Upstream, wish: str) -> None:
    response = await post(upstream, wish)
    assert response.status == 400
    assert (await upstream.session.post("/_emulator/faults", json={"fault": wish})).status == 400


@pytest.mark.parametrize(
    "wish",
    [
        "latency;seconds=nan",
        "latency;seconds=1e400",
        "latency;seconds=-1",
        "trickle;seconds=nan",
        "limit;seconds=-inf",
        "cut;after=-1",
        "status;code=99",
        "status;code=0",
        "status;code=-1",
        "status;code=600",
        "html;code=7",
        "broken_json;code=1000",
        "continuation;hops=0",
        "fragments;count=0",
    ],
)
async def test_a_number_that_nothing_can_be_done_with_is_refused(upstream: Upstream, wish: str) -> None:
    name, value = wish.partition(";")[0], wish.partition("=")[2]
    response = await post(upstream, wish)
    assert response.status == 400
    message = (await response.json())["error"]["message"]
    assert message.startswith(f"'{value}' is no value for the parameter '")
    assert message.endswith(f"of '{name}'.")
    assert await made(upstream) == 0


@pytest.mark.parametrize("code", [200, 299, 499, 599])
@pytest.mark.parametrize("shape", ["steps", "classic"])
async def test_a_status_needs_no_name(upstream: Upstream, code: int, shape: str) -> None:
    assert (await post(upstream, f"status;code={code};shape={shape}")).status == code


@pytest.mark.parametrize(
    "wish", ["latency;seconds=0", "html;code=200", "html;code=599", "missing_usage;gets=0"]
)
async def test_the_least_and_the_most_are_values(upstream: Upstream, wish: str) -> None:
    assert (await post(upstream, wish)).status in (200, 599)


async def test_queued_faults_meet_the_requests_that_match(upstream: Upstream) -> None:
    await upstream.admin(
        "POST",
        "faults",
        [
            {"fault": "status;code=503", "match": {"method": "POST", "contains": "special"}, "count": 2},
            {"fault": "status;code=429", "match": {"key": "key-b"}},
            {"fault": "status;code=500", "match": {"stream": True}, "skip": 1},
            {"fault": "reset_before", "match": {"path": "/v1beta/"}, "skip": 1},
            {"fault": "reset_before", "match": {"contains": "unlucky"}},
        ],
    )
    assert (await upstream.post(BODY)).status == 200
    special = {"model": MODEL, "input": "special"}
    assert [(await upstream.post(special)).status for _ in range(3)] == [503, 503, 200]
    assert (await upstream.post(BODY, x_goog_api_key="key-b")).status == 429
    assert [(await upstream.post({**BODY, "stream": True})).status for _ in range(3)] == [200, 500, 200]
    assert (await upstream.post(BODY, path="/v1beta/interactions")).status == 200
    for path, text in (("/v1beta/interactions", "Hello"), ("/v1/interactions", "unlucky")):
        with pytest.raises((ServerDisconnectedError, ClientError, ConnectionError)):
            await upstream.post({"model": MODEL, "input": text}, path=path)
    assert (await upstream.admin("GET", "faults"))["faults"] == []


async def test_a_fault_without_a_count_stays_until_cleared(upstream: Upstream) -> None:
    await upstream.admin("POST", "faults", {"fault": "status;code=503", "count": 0})
    assert [(await upstream.post(BODY)).status for _ in range(3)] == [503, 503, 503]
    await upstream.admin("DELETE", "faults")
    assert (await upstream.post(BODY)).status == 200


async def test_blocked_content(upstream: Upstream) -> None:
    response = await upstream.post(BODY, wish="blocked;code=prohibited_content")
    assert response.status == 400
    assert (await response.json())["error"]["code"] == "prohibited_content"


async def test_unusual_ends(upstream: Upstream) -> None:
    for wish in ("failed", "incomplete", "budget_exceeded"):
        answer = await upstream.create("Hello", wish=wish)
        assert answer["status"] == wish
    failed = await upstream.create("Hello", wish="failed;code=internal;message=Broke")
    assert failed["errors"] == [{"code": "internal", "message": "Broke"}]


async def test_a_text_can_be_made_long(upstream: Upstream) -> None:
    events = await upstream.stream("Hello", wish="length;bytes=20000")
    assert len(streamed_text(events)) >= 20_000
    assert len(events) < 300
