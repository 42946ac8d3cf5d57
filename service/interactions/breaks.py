"""What the break of a stream says about the health of its deployment (contract 4.6, 4.8, 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.errors import ServiceError

#: Seconds after which upstream cuts any stream, whatever the health of the deployment (contract 4.6).
_CUT_BY_RULE: Final = 590.0
#: What upstream says in an ``error`` event that is its own trouble and not the request's (contract 4.8, 7.2).
_ITS_OWN: Final = frozenset(
    {
        "api_error",
        "bad_gateway",
        "deadline_exceeded",
        "gateway_timeout",
        "internal_server_error",
        "quota_exceeded",
        "rate_limit_exceeded",
        "service_unavailable",
        "too_many_requests",
    }
)


def is_failure(error: Exception, lasted: float, told: Mapping[str, Any] | None) -> bool:
    """Whether a break after so many seconds is a failure of the deployment; ``told`` is the error it told before."""
    if isinstance(error, ServiceError) or lasted >= _CUT_BY_RULE:
        return False
    return told is None or told.get("code", "api_error") in _ITS_OWN
