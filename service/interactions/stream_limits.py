"""How long whoever has begun a stream may listen to it; the interaction itself goes on."""

from __future__ import annotations

from service.upstream.deployments import Deployments


class StreamLimits:
    """``default`` is in seconds, for deployments that say nothing; None is no limit."""

    def __init__(self, deployments: Deployments, default: float | None) -> None:
        self._default = default
        self._limits = {
            deployment.id: limit
            for deployment in deployments
            if (limit := deployment.settings.stream_total_timeout) is not None
        }

    def of(self, deployment_id: str) -> float | None:
        """The seconds that a stream of this deployment may take, from its create on."""
        return self._limits.get(deployment_id, self._default)


def shorter(one: float | None, other: float | None) -> float | None:
    """The shorter of two limits."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
