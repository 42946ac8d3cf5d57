"""What an operator sees: the figures for Prometheus, and the state of each deployment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Secret
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, gateway_starter

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def fleet(start_emulator: StartEmulator, running: AsyncExitStack, sqlite_url: str) -> Fleet:
    return await fleet_of(start_emulator, gateway_starter(running, sqlite_url), "ab")


async def figures(gateway: Gateway) -> Figures:
    reply = await gateway.request("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Figures = {}
    for family in text_string_to_metric_families(reply.raw.decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def labels(**named: str) -> frozenset[tuple[str, str]]:
    return frozenset(named.items())


async def test_requests_are_counted_by_what_was_asked_and_answered(fleet: Fleet) -> None:
    gateway = await fleet.gateway()
    reply = await gateway.ask("Hello")
    await gateway.stream("Hello")
    await gateway.got(reply.id)
    await gateway.get("int_nothing")
    await gateway.refused(400, nothing=1)
    found = await figures(gateway)
    counts = {
        (key["operation"], key["status"]): value
        for (name, pairs), value in found.items()
        if name == "interactions_requests_total" and (key := dict(pairs))
    }
    assert counts == {
        ("create", "200"): 1,
        ("create stream", "200"): 1,
        ("create", "400"): 1,
        ("get", "200"): 1,
        ("get", "404"): 1,
    }
    assert found["interactions_request_duration_seconds_count", labels(operation="create")] == 2
    assert found["interactions_request_duration_seconds_bucket", labels(operation="create", le="+Inf")] == 2
    assert found["interactions_request_duration_seconds_sum", labels(operation="create")] > 0


async def test_attempts_retries_and_cooldowns_are_counted_by_deployment(fleet: Fleet) -> None:
    gateway = await fleet.gateway(allowed_fails=0, cooldown_time=60.0, members={"order": {"a": 1, "b": 2}})
    fleet["a"].fault("status;code=503")
    await gateway.ask("Hello")
    found = await figures(gateway)
    assert found["interactions_attempts_total", labels(deployment="a", outcome="refused")] == 1
    assert found["interactions_attempts_total", labels(deployment="b", outcome="answered")] == 1
    assert found["interactions_deployment_circuit", labels(deployment="a")] == 2
    assert found["interactions_deployment_circuit", labels(deployment="b")] == 0
    assert found["interactions_deployment_cooldowns_total", labels(deployment="a")] == 1
    assert found["interactions_deployment_latency_seconds", labels(deployment="b")] > 0
    assert found["interactions_retries_total", labels()] == 1
    assert found["interactions_writer_entries_total", labels()] >= 3


async def test_late_answers_are_counted_by_how_they_ended(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", members={"timeout": 0.5})
    fleet["a"].hold()
    assert (await gateway.create()).status == 504
    assert (await figures(gateway))["interactions_late_waiting", labels()] == 1
    fleet["a"].release()

    async def has_come() -> bool:
        found = await figures(gateway)
        return found["interactions_late_answers_total", labels(outcome="answered")] == 1

    await eventually(has_come)
    found = await figures(gateway)
    assert found["interactions_late_waiting", labels()] == 0
    assert found["interactions_late_answers_total", labels(outcome="failed")] == 0


async def test_what_is_under_way_is_seen(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", max_concurrent_requests=1)
    async with gateway.live("Hello", fault="trickle;bytes=64;seconds=0.02") as live:
        await gateway.refused(503)
        found = await figures(gateway)
        assert found["interactions_running", labels()] == 1
        assert found["interactions_open_readers", labels()] == 1
        assert found["interactions_deployment_running", labels(deployment="a")] == 1
        assert found["interactions_shed_total", labels()] == 1
        await live.rest()
    async with asyncio.timeout(10):
        while (await figures(gateway))["interactions_open_readers", labels()]:
            await asyncio.sleep(0.05)
    assert (await figures(gateway))["interactions_running", labels()] == 0


async def test_no_label_names_an_interaction(fleet: Fleet) -> None:
    gateway = await fleet.gateway()
    reply = await gateway.ask("Hello")
    text = (await gateway.request("GET", "/metrics")).raw.decode()
    assert reply.id not in text
    assert "int_" not in text


async def test_each_deployment_is_told_without_its_key(fleet: Fleet) -> None:
    gateway = await fleet.gateway(members={"rpm": 100}, routing_strategy="least-busy")
    await gateway.ask("Hello")
    reply = await gateway.request("GET", "/api/deployments")
    assert b"upstream-key" not in reply.raw
    assert reply.body["routing_strategy"] == "least-busy"
    told = reply.body["deployments"]
    assert [one["id"] for one in told] == ["a", "b"]
    (asked,) = [one for one in told if one["attempts"] == {"answered": 1}]
    assert asked["state"] == "closed"
    assert asked["available"] is True
    assert asked["minute"]["requests"] in (0, 1)
    assert asked["minute"]["rpm"] == 100
    assert asked["latency_ms"] > 0


async def test_a_deployment_that_rests_says_until_when(fleet: Fleet) -> None:
    gateway = await fleet.gateway(cooldown_time=60.0, members={"order": {"a": 1, "b": 2}})
    fleet["a"].fault("status;code=429;retry_after=30")
    await gateway.ask("Hello")
    first, second = (await gateway.request("GET", "/api/deployments")).body["deployments"]
    assert (first["state"], first["available"], first["cooldowns"]) == ("open", False, 1)
    assert first["available_at"].endswith("Z")
    assert (second["state"], second["available_at"]) == ("closed", None)


async def test_the_deployments_need_the_master_key_and_the_figures_do_not(fleet: Fleet) -> None:
    gateway = await fleet.gateway(master_key=Secret("only-the-owner"))
    assert (await gateway.request("GET", "/api/deployments")).status == 401
    key = {"authorization": "Bearer only-the-owner"}
    assert (await gateway.request("GET", "/api/deployments", headers=key)).status == 200
    assert (await gateway.request("GET", "/metrics")).status == 200
    assert (await gateway.request("POST", "/metrics")).status == 405
