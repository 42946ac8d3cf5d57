from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BadGateway,
    DeadlineExceeded,
    FailedPrecondition,
    ServiceError,
    ServiceUnavailable,
    UpstreamError,
)
from service.upstream.routing.retry import (
    Decision,
    Failure,
    Kind,
    Place,
    Policy,
    decide,
    failure_of,
    pause_before,
)

BUSY = Failure(Kind.REFUSED, 503, "service_unavailable")
LIMITED = Failure(Kind.REFUSED, 429, "rate_limit_exceeded", retry_after=3.0)
UNREACHABLE = Failure(Kind.UNREACHABLE, 503, "service_unavailable")
LOST = Failure(Kind.LOST, 502, "bad_gateway")
FINAL = Failure(Kind.FINAL, 400, "invalid_request")


def after(
    *failures: Failure,
    policy: Policy = Policy(),  # noqa: B008
    others: bool = True,
    fallback: bool = False,
    left: float = 600.0,
) -> Decision | None:
    return decide(policy, failures, others=others, fallback=fallback, left=left, roll=0.5)


@pytest.mark.parametrize("failure", [BUSY, LIMITED, UNREACHABLE])
def test_another_deployment_is_asked_at_once(failure: Failure) -> None:
    assert after(failure) == Decision(Place.OTHER)
    assert after(failure, failure) == Decision(Place.OTHER)
    assert after(failure, failure, failure) is None


@pytest.mark.parametrize("failure", [LOST, FINAL])
def test_what_may_have_run_or_is_settled_is_not_repeated(failure: Failure) -> None:
    assert after(failure, fallback=True) is None


def test_a_lost_answer_is_repeated_where_the_configuration_says_so() -> None:
    assert after(LOST, policy=Policy(ambiguous=True)) == Decision(Place.OTHER)
    assert after(FINAL, policy=Policy(ambiguous=True)) is None


def test_retries_after_some_errors_may_be_other_ones() -> None:
    policy = Policy(2, of_errors={"InternalServerErrorRetries": 0, "RateLimitErrorRetries": 3})
    assert after(BUSY, policy=policy) is None
    assert after(BUSY, policy=policy, fallback=True) == Decision(Place.FALLBACK)
    assert after(UNREACHABLE, UNREACHABLE, policy=policy) == Decision(Place.OTHER)
    assert after(LIMITED, LIMITED, LIMITED, policy=policy) == Decision(Place.OTHER)
    assert after(LIMITED, LIMITED, LIMITED, LIMITED, policy=policy) is None
    keyed = Policy(2, ambiguous=True, of_errors={"AuthenticationErrorRetries": 0, "TimeoutErrorRetries": 0})
    assert after(Failure(Kind.KEY_REFUSED, 401, "authentication"), policy=keyed) is None
    assert after(Failure(Kind.FORBIDDEN, 403, "permission_denied"), policy=keyed) is None
    assert after(Failure(Kind.LOST, 504, "deadline_exceeded"), policy=keyed) is None
    assert after(Failure(Kind.REFUSED, 408, "c"), policy=keyed) is None
    assert after(LOST, policy=keyed) == Decision(Place.OTHER)


def test_the_narrowest_name_of_an_error_decides() -> None:
    policy = Policy(2, of_errors={"ServiceUnavailableErrorRetries": 0, "InternalServerErrorRetries": 3})
    assert after(Failure(Kind.REFUSED, 503, "unavailable"), policy=policy) is None
    assert after(*[Failure(Kind.REFUSED, 500, "internal")] * 3, policy=policy) == Decision(Place.OTHER)
    default = Policy(2, of_errors={"DefaultRetries": 0, "RateLimitErrorRetries": 1})
    assert after(LIMITED, policy=default) == Decision(Place.OTHER)
    for failure in (
        BUSY,
        UNREACHABLE,
        Failure(Kind.REFUSED, 409, "aborted"),
        Failure(Kind.KEY_REFUSED, 401, "c"),
    ):
        assert after(failure, policy=default) is None


def test_a_callers_number_of_retries_widens_nothing_that_is_narrower() -> None:
    policy = Policy(1, of_errors={"InternalServerErrorRetries": 0, "RateLimitErrorRetries": 3})
    assert after(BUSY, policy=policy.wished(5)) is None
    assert after(UNREACHABLE, UNREACHABLE, policy=policy.wished(5)) == Decision(Place.OTHER)
    assert after(LIMITED, policy=policy.wished(0)) is None


def test_without_another_deployment_the_same_is_asked_later() -> None:
    first, second = after(BUSY, others=False), after(BUSY, BUSY, others=False)
    assert first is not None
    assert second is not None
    assert (first.place, second.place) == (Place.SAME, Place.SAME)
    assert 0 < first.pause < second.pause


def test_what_upstream_asks_for_is_waited_for() -> None:
    assert after(LIMITED, others=False) == Decision(Place.SAME, 3.0)


def test_no_longer_than_the_caller_waits() -> None:
    assert after(LIMITED, others=False, left=2.0) is None
    assert after(BUSY, left=0.0) is None


def test_a_long_wait_is_the_callers_to_decide_on() -> None:
    patient = Failure(Kind.REFUSED, 429, "rate_limit_exceeded", retry_after=34.0)
    assert after(patient, others=False) is None
    assert after(patient, others=False, fallback=True) == Decision(Place.FALLBACK)


def test_a_fallback_comes_after_the_retries_and_before_waiting_for_a_limit() -> None:
    assert after(BUSY, fallback=True) == Decision(Place.OTHER)
    assert after(BUSY, BUSY, BUSY, fallback=True) == Decision(Place.FALLBACK)
    assert after(LIMITED, others=False, fallback=True) == Decision(Place.FALLBACK)
    assert after(BUSY, policy=Policy(retries=0), fallback=True) == Decision(Place.FALLBACK)


def test_a_refused_key_is_repeated_with_another_one_only() -> None:
    refused = Failure(Kind.KEY_REFUSED, 401, "authentication")
    assert after(refused) == Decision(Place.OTHER)
    assert after(refused, others=False) is None
    assert after(refused, others=False, fallback=True) == Decision(Place.FALLBACK)


def test_what_is_forbidden_is_tried_once_with_another_key() -> None:
    forbidden = Failure(Kind.FORBIDDEN, 403, "permission_denied")
    assert after(forbidden) == Decision(Place.OTHER)
    assert after(forbidden, forbidden) is None
    assert after(forbidden, BUSY, forbidden) is None
    assert after(forbidden, others=False, fallback=True) is None
    assert after(forbidden, policy=Policy(retries=0)) is None
    assert after(forbidden, left=0.0) is None


@pytest.mark.parametrize(
    ("error", "kind", "may_have_run"),
    [
        (UpstreamError(408, "c", "m"), Kind.REFUSED, False),
        (UpstreamError(409, "aborted", "m"), Kind.REFUSED, False),
        (UpstreamError(429, "rate_limit_exceeded", "m"), Kind.REFUSED, False),
        (UpstreamError(500, "api_error", "m"), Kind.REFUSED, True),
        (UpstreamError(501, "unimplemented", "m"), Kind.FINAL, False),
        (UpstreamError(502, "bad_gateway", "m"), Kind.REFUSED, True),
        (UpstreamError(503, "service_unavailable", "m"), Kind.REFUSED, False),
        (UpstreamError(504, "deadline_exceeded", "m"), Kind.REFUSED, True),
        (UpstreamError(400, "invalid_request", "m"), Kind.FINAL, False),
        (UpstreamError(400, "c", "API key not valid. Please pass a valid one."), Kind.KEY_REFUSED, False),
        (UpstreamError(401, "authentication", "m"), Kind.KEY_REFUSED, False),
        (UpstreamError(402, "payment_required", "m"), Kind.KEY_REFUSED, False),
        (UpstreamError(403, "permission_denied", "m"), Kind.FORBIDDEN, False),
        (UpstreamError(403, "permission_denied", "m", reason="BILLING_DISABLED"), Kind.KEY_REFUSED, False),
        (ServiceUnavailable("no connection"), Kind.UNREACHABLE, False),
        (BadGateway("cut"), Kind.LOST, True),
        (DeadlineExceeded("silent"), Kind.LOST, True),
        (FailedPrecondition("no"), Kind.FINAL, False),
    ],
)
def test_errors_say_what_may_have_happened(error: ServiceError, kind: Kind, may_have_run: bool) -> None:
    failure = failure_of(error)
    assert (failure.kind, failure.may_have_run) == (kind, may_have_run)


@given(st.integers(1, 12), st.floats(0, 1), st.floats(0, 20), st.one_of(st.none(), st.floats(0, 30)))
def test_a_pause_is_bounded_and_never_shorter_than_asked(
    count: int, roll: float, least: float, asked: float | None
) -> None:
    failures = [Failure(Kind.REFUSED, 503, "c", asked)] * count
    pause = pause_before(Policy(least_pause=least), failures, roll)
    assert pause >= max(least, asked or 0.0)
    assert 0.125 <= pause <= max(8.0, least, asked or 0.0)
