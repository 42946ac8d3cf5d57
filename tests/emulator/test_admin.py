"""The admin API."""

from __future__ import annotations

import pytest

from tests.emulator.client import MODEL, Start, Upstream

BODY = {"model": MODEL, "input": "Hello"}


async def test_every_request_is_kept_in_order(upstream: Upstream) -> None:
    name = (await upstream.create("Hello"))["id"]
    await upstream.get(name, include_input="true")
    await upstream.session.get("/elsewhere")
    await upstream.admin("GET", "clock")
    answer = await upstream.admin("GET", "requests")
    assert answer["count"] == 3
    assert answer["by_method"] == {"POST": 1, "GET": 2}
    create, get, stray = answer["requests"]
    assert [entry["order"] for entry in answer["requests"]] == [1, 2, 3]
    assert (create["method"], create["path"], create["status"]) == ("POST", "/v1/interactions", 200)
    assert create["body"] == BODY
    assert create["interaction"] == name
    assert create["key"] == "ey-a"
    assert create["headers"]["content-type"] == "application/octet-stream"
    assert "x-goog-api-key" not in create["headers"]
    assert get["query"] == "include_input=true"
    assert stray["status"] == 404


async def test_keys_are_not_shown(upstream: Upstream) -> None:
    await upstream.post(
        BODY, path="/v1/interactions?alt=sse&key=secret-key", Authorization="Bearer secret-key"
    )
    response = await upstream.session.get("/_emulator/requests")
    shown = await response.text()
    assert "secret" not in shown
    assert "alt=sse&key=..." in shown


async def test_requests_can_be_read_in_parts(upstream: Upstream) -> None:
    for text in "abcd":
        await upstream.create(text)
    part = await upstream.admin("GET", "requests?after=1&limit=2")
    assert [entry["body"]["input"] for entry in part["requests"]] == ["b", "c"]
    assert part["count"] == 4
    assert (await upstream.session.get("/_emulator/requests?after=x")).status == 400


async def test_requests_can_be_counted_only(start: Start) -> None:
    upstream = await start(record_requests=False)
    await upstream.create("Hello")
    assert await upstream.admin("GET", "requests?count=true") == {"count": 1, "by_method": {"POST": 1}}
    assert (await upstream.admin("GET", "requests"))["requests"] == []


async def test_requests_can_be_cleared(upstream: Upstream) -> None:
    await upstream.create("Hello")
    await upstream.admin("DELETE", "requests")
    assert (await upstream.admin("GET", "requests"))["count"] == 0
    await upstream.create("Hello")
    assert (await upstream.admin("GET", "requests?after=0"))["requests"][0]["order"] == 1


async def test_interactions_can_be_listed_and_forgotten(upstream: Upstream) -> None:
    first, second = await upstream.create("One"), await upstream.create("Two")
    held = await upstream.admin("GET", "interactions")
    assert [entry["id"] for entry in held["interactions"]] == [first["id"], second["id"]]
    assert held["interactions"][0]["usage"] == first["usage"]
    assert await upstream.admin("POST", "forget", {"id": first["id"]}) == {"forgotten": 1}
    assert await upstream.admin("POST", "forget", {"id": first["id"]}) == {"forgotten": 0}
    assert (await upstream.session.get(f"/v1/interactions/{first['id']}")).status == 404
    assert await upstream.admin("POST", "forget", {"all": True}) == {"forgotten": 1}


async def test_the_clock_moves_forward_only(upstream: Upstream) -> None:
    before = (await upstream.admin("GET", "clock"))["now"]
    after = (await upstream.admin("POST", "clock", {"advance": 1000}))["now"]
    assert after >= before + 1000
    assert upstream.clock.now() >= after
    assert (await upstream.session.post("/_emulator/clock", json={"advance": -1})).status == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock", {}),
        ("clock", []),
        ("clock", {"advance": "1"}),
        ("forget", {}),
        ("faults", {}),
        ("faults", {"fault": ""}),
        ("faults", {"fault": "cut", "when": "now"}),
        ("faults", {"fault": "cut", "match": {"colour": "red"}}),
    ],
)
async def test_what_cannot_be_understood_is_refused(upstream: Upstream, path: str, body: object) -> None:
    response = await upstream.session.post(f"/_emulator/{path}", json=body)
    assert response.status == 400
    assert (await response.json())["error"]["code"]
