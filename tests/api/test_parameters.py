"""Parameters in the URL: one that means nothing is refused, and not passed over, wherever it is."""

from __future__ import annotations

import pytest

from tests.support.gateway import Gateway


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/retention?dry_run=true"),
        ("PUT", "/api/interactions/int_x/hold?reason=x"),
        ("GET", "/api/holds?project=x"),
        ("POST", "/api/holds?label=a"),
        ("POST", "/api/interactions/int_x/replay?wait=1"),
        ("GET", "/api/interactions/int_x/comparison?x="),
        ("DELETE", "/api/interactions/int_x?force=true"),
        ("GET", "/api/projects/default/webhook-secret?x="),
        ("GET", "/api/deployments?x="),
    ],
)
async def test_a_parameter_that_means_nothing_is_refused(gateway: Gateway, method: str, path: str) -> None:
    refused = await gateway.request(method, path)
    assert refused.status == 400
    assert "Unknown parameter" in refused.error["message"]
