"""``GET /api/deployments``: every deployment, how it is and what it has done; never its key."""

from __future__ import annotations

from math import inf
from typing import Any

import orjson
from aiohttp import web

from service.api.endpoint import answer, check_parameters
from service.api.keys import AUTHENTICATOR, ROUTER
from service.interactions.render import timestamp
from service.upstream.routing.state import State


async def deployments(request: web.Request) -> web.StreamResponse:
    """The deployments of this process in the order of the configuration; needs the master key."""
    request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    router = request.app[ROUTER]
    now = router.clock()
    told = [_told(state, now) for state in router]
    return answer(
        request,
        orjson.dumps({"routing_strategy": router.settings.routing_strategy, "deployments": told}),
    )


def _told(state: State, now: float) -> dict[str, Any]:
    settings, circuit = state.deployment.settings, state.circuit
    rests = now < state.rest_until < inf
    return {
        "id": state.id,
        "model_name": settings.model_name,
        "model": settings.model,
        "api_base": settings.api_base,
        "state": circuit.state(now),
        "available": state.rest_until <= now,
        "available_at": timestamp(int(state.rest_until * 1_000_000)) if rests else None,
        "running": state.running,
        "latency_ms": round(state.latency * 1_000, 3),
        "minute": {
            "requests": state.requests + state.elsewhere_requests,
            "tokens": state.tokens + state.elsewhere_tokens,
            "rpm": settings.rpm,
            "tpm": settings.tpm,
        },
        "attempts": dict(sorted(state.counts.items())),
        "cooldowns": circuit.opened,
    }
