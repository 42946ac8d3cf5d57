"""Whether a create that failed is tried again, where, and after how long: a pure function of what happened.

Only what cannot have happened twice, or is safe to repeat, is repeated by itself: a connection that was never made,
and a refusal with 408, 409, 429 or 5xx (contract 7.5). An answer that was lost leaves it open whether the create has
run and was billed, so it is repeated only where the configuration says so. A 500, 502 or 504 is an answer, and is
repeated unless the configuration forbids that; the record notes of both that upstream may have run the request. What
refuses the deployment's own key or account is repeated where there is another one. A 403 may be about either, and is
tried once with another key to find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from service.errors import BadGateway, DeadlineExceeded, ServiceError, ServiceUnavailable, UpstreamError
from service.settings.model import RetriedError
from service.wire.upstream_errors import refuses_key

#: Seconds before the first retry on the same deployment, doubled for each after it; and the most they grow to.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 8.0
#: A longer wait that upstream asks for is the caller's to decide on: it gets the refusal with its ``Retry-After``.
_LONGEST_ASKED: Final = 30.0
_REPEATABLE: Final = frozenset({408, 409, 429})
#: Server errors that no repetition changes.
_SETTLED: Final = frozenset({501, 505})
#: Refusals of a front end that may have given up on a model that was at work (contract 7.5).
_MAY_HAVE_RUN: Final = frozenset({500, 502, 504})


class Kind(StrEnum):
    """What a failed attempt says about the request."""

    #: No connection was made: nothing was sent.
    UNREACHABLE = "unreachable"
    #: Upstream answered that it does not serve the request now.
    REFUSED = "refused"
    #: The request was sent and its answer did not come, or cannot be understood.
    LOST = "lost"
    #: Upstream refused the deployment's own key or account, of which no caller knows.
    KEY_REFUSED = "key_refused"
    #: Upstream does not allow this request to this key: either may be the reason.
    FORBIDDEN = "forbidden"
    #: Upstream answered that it does not serve this request.
    FINAL = "final"


#: What a deployment with another key may answer otherwise.
OF_THE_KEY: Final = (Kind.KEY_REFUSED, Kind.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed; ``retry_after`` is in seconds."""

    kind: Kind
    status: int
    code: str
    retry_after: float | None = None

    @property
    def may_have_run(self) -> bool:
        """Whether upstream may have run the request all the same, and billed it."""
        return self.kind is Kind.LOST or (self.kind is Kind.REFUSED and self.status in _MAY_HAVE_RUN)


@dataclass(frozen=True, slots=True)
class Policy:
    """``retries`` after the first try, pauses of ``least_pause`` seconds or more, ``ambiguous``: lost ones as well.

    ``of_errors`` has the number of retries after failures of some kinds, where it is another one.
    """

    retries: int = 2
    least_pause: float = 0.0
    ambiguous: bool = False
    of_errors: Mapping[RetriedError, int] = field(default_factory=lambda: MappingProxyType({}))

    def allows(self, failures: Sequence[Failure]) -> bool:
        """Whether so many failures, of which the last one decides, leave another try."""
        kinds = _retried_errors(failures[-1])
        most = next((self.of_errors[kind] for kind in kinds if kind in self.of_errors), self.retries)
        return len(failures) <= most

    def wished(self, retries: int) -> Policy:
        """The same with a caller's number of retries; what is narrower for some kinds stays."""
        narrower = {kind: min(most, retries) for kind, most in self.of_errors.items()}
        return replace(self, retries=retries, of_errors=narrower)


class Place(StrEnum):
    """Where the next try goes."""

    OTHER = "another deployment"
    SAME = "the same deployment"
    FALLBACK = "a fallback model"


@dataclass(frozen=True, slots=True)
class Decision:
    """Try again there, after so many seconds."""

    place: Place
    pause: float = 0.0


def failure_of(error: ServiceError) -> Failure:
    """What the client's error says (:mod:`service.upstream.client`)."""
    match error:
        case UpstreamError(status=status) if status in _REPEATABLE or (
            status >= 500 and status not in _SETTLED
        ):
            kind = Kind.REFUSED
        case UpstreamError() if refuses_key(error):
            kind = Kind.KEY_REFUSED
        case UpstreamError(status=403):
            kind = Kind.FORBIDDEN
        case UpstreamError():
            kind = Kind.FINAL
        case ServiceUnavailable():
            kind = Kind.UNREACHABLE
        case BadGateway() | DeadlineExceeded():
            kind = Kind.LOST
        case _:
            kind = Kind.FINAL
    return Failure(
        kind, error.status, error.code, error.retry_after if kind is not Kind.UNREACHABLE else None
    )


def repeatable(failure: Failure, policy: Policy) -> bool:
    """Whether a request that failed so may be sent once more."""
    return failure.kind in (Kind.UNREACHABLE, Kind.REFUSED) or (
        failure.kind is Kind.LOST and policy.ambiguous
    )


def decide(
    policy: Policy,
    failures: Sequence[Failure],
    *,
    others: bool,
    fallback: bool,
    left: float,
    roll: float,
) -> Decision | None:
    """What follows on these failures, the attempts of one model so far; None: nothing.

    ``others`` and ``fallback`` say whether another deployment of the model, and another model, could serve, and with
    another key where this one was refused; ``left`` is how many seconds the caller still waits; ``roll`` is a random
    number from 0 to 1.
    """
    last = failures[-1]
    elsewhere = last.kind is Kind.KEY_REFUSED
    if last.kind is Kind.FORBIDDEN:
        again = others and left > 0 and policy.allows(failures)
        alone = [failure.kind for failure in failures].count(Kind.FORBIDDEN) == 1
        return Decision(Place.OTHER) if again and alone else None
    if left <= 0 or not (elsewhere or repeatable(last, policy)):
        return None
    if policy.allows(failures):
        if others:
            return Decision(Place.OTHER)
        pause = pause_before(policy, failures, roll)
        waits = not elsewhere and pause < left and (last.retry_after or 0.0) <= _LONGEST_ASKED
        if waits and not (fallback and last.status == 429):
            return Decision(Place.SAME, pause)
    return Decision(Place.FALLBACK) if fallback else None


def _retried_errors(failure: Failure) -> tuple[RetriedError, ...]:
    """What LiteLLM's `retry_policy` calls it, the narrowest name first."""
    if failure.kind in OF_THE_KEY:
        return ("AuthenticationErrorRetries", "DefaultRetries")
    if failure.status == 408 or (failure.kind is Kind.LOST and failure.status == 504):
        return ("TimeoutErrorRetries", "DefaultRetries")
    if failure.kind is not Kind.REFUSED:
        return ("DefaultRetries",)
    if failure.status == 429:
        return ("RateLimitErrorRetries", "DefaultRetries")
    if failure.status == 503:
        return ("ServiceUnavailableErrorRetries", "InternalServerErrorRetries", "DefaultRetries")
    return ("InternalServerErrorRetries", "DefaultRetries") if failure.status >= 500 else ("DefaultRetries",)


def pause_before(policy: Policy, failures: Sequence[Failure], roll: float) -> float:
    """Seconds before the same deployment is asked again: what it asked for, and no less than the backoff."""
    longest = min(_FIRST_PAUSE * 2.0 ** (len(failures) - 1), _LONGEST_PAUSE)
    jittered = longest * (0.5 + 0.5 * roll)
    return max(policy.least_pause, failures[-1].retry_after or 0.0, jittered)
