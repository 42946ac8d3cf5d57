"""By when upstream is to have ended an interaction, and which of them this process may see to."""

from __future__ import annotations

from typing import Final

from service.store.records import now
from service.store.remit import Remit
from service.upstream.deployments import Deployments
from service.wire import codec

_SECOND: Final = 1_000_000
#: Seconds beyond its time for which an interaction is left to processes that have its deployment, whatever time these
#: give it: nothing lives longer at upstream (contract 6).
_LEFT_TO_OTHERS: Final = 60 * 24 * 3600.0


class Deadlines:
    """``background_timeout`` is the number of seconds that holds where a deployment has none of its own."""

    def __init__(self, deployments: Deployments, background_timeout: float) -> None:
        self._deployments = deployments
        self._background_timeout = background_timeout
        self._known = codec.dumps([deployment.id for deployment in deployments]).decode()

    def remaining(self, created_at: int, deployment_id: str) -> float:
        """The seconds that an interaction has until it is given up, by the clock that it was created by."""
        deployment = self._deployments.by_id(deployment_id)
        if deployment is None:
            limit = self._background_timeout + _LEFT_TO_OTHERS
        else:
            limit = deployment.settings.background_timeout or self._background_timeout
        return limit - (now() - created_at) / _SECOND

    def remit(self) -> Remit:
        """What this process may take over now."""
        left = self._background_timeout + _LEFT_TO_OTHERS
        return Remit(self._known, now() - int(left * _SECOND))
