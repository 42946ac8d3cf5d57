"""What the indexer has not come to is told as it will be when it has: costs, and usage by modality."""

from __future__ import annotations

from typing import Any

import pytest

from service.audit.indexer import Indexer
from tests.audit.test_export import large, settled
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment

PROMPT = {"index_interval": 0.02}


async def serving(start: StartGateway, upstream: Emulated, **settings: Any) -> Gateway:
    priced = deployment(
        upstream, "dear", "gemini-2.5-pro", input_cost_per_token=0.5, output_cost_per_token=1.0
    )
    listed = deployment(upstream, "gemini-2.5-flash")
    return await start(deployments=(priced, listed), **settings)


async def told(gateway: Gateway, *names: str) -> list[Any]:
    paths = ["/api/interactions?limit=100", *(f"/api/interactions/{name}" for name in names)]
    paths += [f"/api/interactions/{name}/chain" for name in names]
    return [(await gateway.request("GET", path)).body for path in paths]


async def exported(gateway: Gateway) -> list[bytes]:
    replies = [await gateway.request("GET", f"/api/export?format={form}") for form in ("jsonl", "csv")]
    assert [reply.status for reply in replies] == [200, 200]
    return [reply.raw for reply in replies]


@pytest.mark.parametrize("count", [0, 8])
async def test_everything_is_told_before_it_is_derived_as_after(
    start_gateway: StartGateway, upstream: Emulated, count: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Indexer, "start", lambda _: None)
        late = await serving(start_gateway, upstream)
    first = await late.ask("One", model="dear")
    second = await late.ask("Two", model="gemini-2.5-flash", previous_interaction_id=first.id)
    await late.ask("Three", model="gemini-2.5-flash", fault="missing_usage;gets=9")
    await late.create("Four", model="gemini-2.5-flash", fault="status;code=400")
    # So many that an export of them has processes of its own.
    await large(late, count)
    assert all(row["derived_state"] == 0 for row in await late.database.rows())
    before = await told(late, first.id, second.id), await exported(late)
    costs = {one["model"]: one["cost"] for one in before[0][0]["interactions"] if one["usage"] is not None}
    assert costs["gemini-2.5-pro"] > 1 > costs["gemini-2.5-flash"] > 0
    await late.stop()
    prompt = await serving(start_gateway, upstream, **PROMPT)
    await settled(prompt)
    assert (await told(prompt, first.id, second.id), await exported(prompt)) == before
