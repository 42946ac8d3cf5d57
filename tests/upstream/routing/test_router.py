"""Where requests go while deployments rest, are full or at their limits, and what a failure leads to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from service.errors import InvalidRequest, RateLimitExceeded, ServiceUnavailable
from service.settings import Secret
from service.upstream.routing.course import Course, Wishes
from service.upstream.routing.retry import Decision, Failure, Kind, Place
from tests.upstream.routing.routers import BUSY, FORBIDDEN, KEY_REFUSED, LIMITED, Routing, entry, where


def failed(course: Course, failure: Failure = BUSY) -> str | None:
    """Where a course goes after a failure."""
    course.failed(0.01, failure)
    decision = course.next()
    return None if decision is None else course.move(decision).deployment.id


def test_the_lowest_order_that_can_serve_does() -> None:
    routing = Routing(entry("a", order=1), entry("b", order=2), entry("c", order=2))
    assert {where(routing.start()) for _ in range(30)} == {"a"}
    routing.rest("a")
    assert {where(routing.start()) for _ in range(30)} == {"b", "c"}


def test_a_retry_goes_to_a_deployment_that_was_not_tried() -> None:
    routing = Routing(entry("a"), entry("b"), entry("c"))
    course = routing.start()
    tried = [where(course), failed(course), failed(course)]
    assert sorted(map(str, tried)) == ["a", "b", "c"]
    assert failed(course) is None


def test_every_place_is_given_back() -> None:
    routing = Routing(entry("a"), entry("b"), entry("c"))
    courses = [routing.start() for _ in range(6)]
    for course in courses:
        failed(course)
    assert sum(state.running for state in routing.router) == 6
    for course in courses:
        course.end()
        course.end()
    assert [state.running for state in routing.router] == [0, 0, 0]


def test_a_conversation_stays_where_it_is_unless_that_rests_or_is_full() -> None:
    routing = Routing(entry("a", max_parallel_requests=2), entry("b"))
    first = [routing.start(preferred="a") for _ in range(3)]
    assert [where(course) for course in first] == ["a", "a", "b"]
    first[0].end()
    assert where(routing.start(preferred="a")) == "a"
    first[1].end()
    routing.rest("a")
    assert where(routing.start(preferred="a")) == "b"
    assert where(routing.start(preferred="a", pinned=True)) == "a"


def test_what_is_pinned_is_retried_there_alone() -> None:
    routing = Routing(entry("a"), entry("b"), default_fallbacks=("b",))
    course = routing.start(preferred="a", pinned=True)
    assert [failed(course), failed(course), failed(course)] == ["a", "a", None]


def test_what_can_go_nowhere_else_stays_where_it_was() -> None:
    routing = Routing(entry("a", "pro", "gemini-2.5-pro"), entry("b"), default_fallbacks=("fast",))
    course = routing.start("pro")
    for _ in range(2):
        course.failed(0.01, BUSY)
        decision = course.next()
        assert decision is not None
        course.move(decision)
        decision = course.stay()
        assert decision is not None
        assert decision.pause > 0
        assert (course.back().deployment.id, course.fallback) == ("a", None)
    assert failed(course) is None
    course.end()
    assert [state.running for state in routing.router] == [0, 0]


def test_nothing_stays_at_a_deployment_that_cannot_be_reached() -> None:
    routing = Routing(entry("a"), entry("b", order=2), allowed_fails=0)
    course = routing.start()
    course.failed(0.01, Failure(Kind.UNREACHABLE, 503, "service_unavailable"))
    decision = course.next()
    assert decision is not None
    course.move(decision)
    assert course.stay() is None
    course.end()
    assert [state.running for state in routing.router] == [0, 0]


def test_after_a_cooldown_one_request_probes() -> None:
    routing = Routing(entry("a"), entry("b", order=2), cooldown_time=5.0)
    routing.rest("a")
    routing.clock.now += 5.0
    probe = routing.start()
    assert where(probe) == "a"
    assert {where(routing.start()) for _ in range(10)} == {"b"}
    probe.answered(0.01)
    probe.end()
    assert where(routing.start()) == "a"


def test_a_probe_that_takes_its_time_does_not_shut_out_the_others() -> None:
    routing = Routing(entry("a"), entry("b", order=2), cooldown_time=5.0)
    routing.rest("a")
    routing.clock.now += 5.0
    slow = routing.start()
    routing.clock.now += 5.0
    second = routing.start()
    assert [where(slow), where(second), where(routing.start())] == ["a", "a", "b"]
    second.answered(0.01)
    assert where(routing.start()) == "a"


def test_nobody_is_refused_while_deployments_that_asked_to_be_left_alone_are_probed() -> None:
    routing = Routing(entry("a"), entry("b"))
    routing.rest("a", LIMITED)
    routing.rest("b", LIMITED)
    routing.clock.now += 20.0
    assert {where(routing.start()) for _ in range(2)} == {"a", "b"}
    assert {where(routing.start()) for _ in range(30)} == {"a", "b"}


def test_where_all_have_failed_the_least_bad_is_asked() -> None:
    routing = Routing(entry("a"), entry("b"))
    routing.rest("a")
    routing.rest("b")
    assert {where(routing.start()) for _ in range(30)} == {"a", "b"}


def test_where_all_asked_to_be_left_alone_the_caller_is_told_for_how_long() -> None:
    routing = Routing(entry("a"), entry("b"))
    routing.rest("a", LIMITED)
    routing.rest("b", LIMITED)
    routing.clock.now += 5.0
    with pytest.raises(RateLimitExceeded) as caught:
        routing.start()
    assert caught.value.retry_after == pytest.approx(15.0)
    routing.clock.now += 15.0
    assert where(routing.start()) in "ab"


def test_a_deployment_that_is_alone_is_never_refused_for_its_failures() -> None:
    routing = Routing(entry("a"))
    routing.rest("a", LIMITED)
    assert where(routing.start()) == "a"


def test_beyond_max_parallel_requests_a_caller_is_refused_at_once() -> None:
    routing = Routing(entry("a", max_parallel_requests=2))
    running = [routing.start(), routing.start()]
    with pytest.raises(ServiceUnavailable) as caught:
        routing.start()
    assert caught.value.retry_after == 1.0
    running[0].end()
    assert where(routing.start()) == "a"


@pytest.mark.parametrize(
    "rules",
    [
        {"routing_strategy": "usage-based-routing"},
        {"optional_pre_call_checks": ("enforce_model_rate_limits",)},
    ],
)
def test_requests_of_a_minute_are_limited(rules: dict[str, Any]) -> None:
    routing = Routing(entry("a", rpm=3), entry("b", rpm=2), **rules)
    courses = [routing.start() for _ in range(5)]
    assert Counter(map(where, courses)) == {"a": 3, "b": 2}
    for course in courses:
        course.end()
    with pytest.raises(RateLimitExceeded) as caught:
        routing.start()
    assert caught.value.retry_after == pytest.approx(60.0)
    routing.clock.now += 60.0
    assert where(routing.start()) in "ab"


def test_tokens_of_a_minute_are_limited() -> None:
    routing = Routing(entry("a", tpm=1000), entry("b", tpm=1000), routing_strategy="usage-based-routing")
    course = routing.start()
    course.spent(1_000)
    full = where(course)
    assert {where(routing.start()) for _ in range(20)} == {"a", "b"} - {full}


def test_rates_are_shares_and_no_limits_otherwise() -> None:
    routing = Routing(entry("a", rpm=1), entry("b", rpm=1))
    assert len([routing.start() for _ in range(20)]) == 20


def test_what_other_processes_use_counts() -> None:
    routing = Routing(entry("a", rpm=10), entry("b", rpm=10), routing_strategy="usage-based-routing")
    routing.start().end()
    routing.state("a").told_usage(10, 0)
    assert {where(routing.start()) for _ in range(5)} == {"b"}


def test_a_fallback_serves_when_the_retries_are_used_up() -> None:
    routing = Routing(
        entry("a", "pro", "gemini-2.5-pro"),
        entry("b", "fast"),
        fallbacks={"pro": ("nothing", "fast")},
        num_retries=0,
    )
    course = routing.start("pro")
    assert failed(course) == "b"
    assert course.fallback == "fast"
    assert course.route.model == "gemini-2.5-flash"
    assert failed(course) is None


def test_a_fallback_serves_at_once_while_a_model_rests() -> None:
    routing = Routing(
        entry("a", "pro", "gemini-2.5-pro"), entry("b", "fast"), default_fallbacks=("fast",), cooldown_time=5
    )
    routing.rest("a")
    course = routing.start("pro")
    assert (where(course), course.fallback) == ("b", "fast")
    routing.clock.now += 5
    assert where(routing.start("pro")) == "a"


def test_fallbacks_of_the_model_stand_before_the_default_ones_and_are_bounded() -> None:
    names = [entry(name, name, f"gemini-{name}") for name in "abcd"]
    routing = Routing(
        *names, fallbacks={"a": ("b", "c")}, default_fallbacks=("d",), num_retries=0, max_fallbacks=1
    )
    course = routing.start("a")
    assert [failed(course), failed(course)] == ["b", None]
    assert failed(routing.start("c")) == "d"


def test_fallbacks_of_any_model_stand_behind_its_own() -> None:
    names = [entry(name, name, f"gemini-{name}") for name in "abc"]
    routing = Routing(*names, fallbacks={"*": ("b",), "c": ("a",)}, default_fallbacks=("c",), num_retries=0)
    assert failed(routing.start("a")) == "b"
    assert failed(routing.start("c")) == "a"


@pytest.mark.parametrize("name", ["pro", "gemini-2.5-pro", "gemini/gemini-2.5-pro"])
def test_fallbacks_are_found_by_the_models_alias_whatever_a_caller_calls_it(name: str) -> None:
    routing = Routing(
        entry("a", "pro", "gemini-2.5-pro"), entry("b", "fast"), fallbacks={"pro": ("fast",)}, num_retries=0
    )
    assert failed(routing.start(name)) == "b"


def test_a_model_is_no_fallback_of_its_own() -> None:
    routing = Routing(entry("a"), default_fallbacks=("fast",), num_retries=0)
    assert failed(routing.start("gemini-2.5-flash")) is None


def test_a_cooldown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    routing = Routing(entry("a"), entry("b"), allowed_fails=0)
    course = routing.start()
    first = where(course)
    failed(course)
    assert caplog.messages == [f"deployment {first} cools down: service_unavailable (503)"]


def test_pauses_differ_from_request_to_request() -> None:
    routing = Routing(entry("a"), disable_cooldowns=True, retry_allowance=100)
    pauses = set()
    for _ in range(50):
        course = routing.start()
        course.failed(0.01, BUSY)
        decision = course.next()
        assert decision is not None
        pauses.add(decision.pause)
        course.end()
    assert len(pauses) == 50
    assert 0.125 <= min(pauses) < 0.16 < 0.22 < max(pauses) <= 0.25


def test_a_callers_fallbacks_stand_before_the_configurations() -> None:
    routing = Routing(
        entry("a", "a", "gemini-a"), entry("b", "b", "gemini-b"), default_fallbacks=("b",), num_retries=0
    )
    assert failed(routing.start("a", wishes=Wishes(fallbacks=()))) is None
    with pytest.raises(InvalidRequest, match=r"'fallbacks'.*nothing.*Known models: a, b"):
        routing.start("a", wishes=Wishes(fallbacks=("nothing",)))


def test_a_callers_number_of_retries_counts() -> None:
    routing = Routing(*(entry(name) for name in "abcdef"), num_retries=1)
    assert failed(routing.start(wishes=Wishes(num_retries=0))) is None
    course = routing.start(wishes=Wishes(num_retries=4))
    assert None not in [failed(course) for _ in range(4)]


def test_nothing_is_tried_when_the_caller_no_longer_waits() -> None:
    routing = Routing(entry("a"), entry("b"))
    course = routing.start(wishes=Wishes(timeout=2.0))
    routing.stopwatch.now += 2.0
    assert failed(course) is None


@pytest.mark.parametrize("jump", [-7_200.0, 7_200.0])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_a_wait(jump: float) -> None:
    routing = Routing(entry("a"), entry("b"), entry("c"))
    course = routing.start(wishes=Wishes(timeout=2.0))
    routing.clock.now += jump
    assert course.left == 2.0
    assert failed(course) is not None
    routing.stopwatch.now += 2.0
    assert course.left == 0.0
    assert failed(course) is None


def test_the_budget_bounds_the_retries_of_all_requests() -> None:
    routing = Routing(*(entry(name) for name in "ab"), disable_cooldowns=True, retry_allowance=20)
    retried = 0
    for _ in range(500):
        course = routing.start()
        while failed(course) is not None:
            retried += 1
        course.end()
    assert retried == routing.router.budget.spent
    assert retried <= 20 + 50


def test_what_is_wrong_with_a_request_says_nothing_about_the_deployment() -> None:
    routing = Routing(entry("a"), entry("b"))
    for _ in range(50):
        routing.state("a").failed(
            routing.clock.now, 0.01, Failure(Kind.FINAL, 400, "invalid_request"), probe=False
        )
    assert routing.state("a").circuit.state(routing.clock.now) == "closed"


def test_a_key_that_is_refused_does() -> None:
    routing = Routing(entry("a"), entry("b"))
    routing.rest("a", KEY_REFUSED)
    assert {where(routing.start()) for _ in range(20)} == {"b"}


@pytest.mark.parametrize("failure", [KEY_REFUSED, FORBIDDEN])
def test_what_a_key_is_refused_is_not_asked_for_with_the_same_key(failure: Failure) -> None:
    one = Secret("one")
    routing = Routing(*(entry(name, api_key=one, order=place) for place, name in enumerate("abc")))
    assert failed(routing.start(), failure) is None
    routing = Routing(entry("a", api_key=one), entry("b", api_key=one, order=2), entry("c", order=3))
    assert failed(routing.start(), failure) == "c"


def test_what_is_forbidden_to_two_keys_is_the_requests_own_fault() -> None:
    routing = Routing(entry("a"), entry("b"), entry("c"), retry_allowance=10)
    for _ in range(10):
        course = routing.start()
        assert failed(course, FORBIDDEN) is not None
        assert failed(course, FORBIDDEN) is None
        course.end()
    assert {state.circuit.state(routing.clock.now) for state in routing.router} == {"closed"}


def test_a_key_that_is_forbidden_what_another_may_lets_its_deployment_cool_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routing = Routing(entry("a"), entry("b", order=2), cooldown_time=5.0, allowed_fails=1)
    for _ in range(2):
        course = routing.start()
        assert failed(course, FORBIDDEN) == "b"
        course.answered(2.0)
        course.end()
    assert where(routing.start()) == "b"
    assert caplog.messages == ["deployment a cools down: its key is forbidden what another's may"]
    routing.clock.now += 5.0
    probe = routing.start()
    assert failed(probe, FORBIDDEN) == "b"
    assert where(routing.start()) == "b"
    probe.answered(2.0)
    assert where(routing.start()) == "b"


def test_a_deployment_in_doubt_of_more_than_is_allowed_is_spared_until_it_is_known() -> None:
    routing = Routing(entry("a"), entry("b", order=2), allowed_fails=2)
    doubts = [routing.start() for _ in range(3)]
    for course in doubts:
        assert failed(course, FORBIDDEN) == "b"
    assert where(routing.start()) == "b"
    doubts[0].end()
    assert where(routing.start()) == "a"


def test_a_probe_that_is_forbidden_without_a_verdict_is_followed_by_another() -> None:
    routing = Routing(entry("a"), entry("b", order=2), cooldown_time=5.0)
    routing.rest("a")
    routing.clock.now += 5.0
    probe = routing.start()
    failed(probe, FORBIDDEN)
    failed(probe, BUSY)
    assert where(routing.start()) == "b"
    probe.end()
    assert where(routing.start()) == "a"


def test_an_answer_of_the_same_deployment_or_another_model_is_no_verdict_on_a_key() -> None:
    routing = Routing(
        entry("a"),
        entry("b", order=2),
        entry("c", "pro", "gemini-2.5-pro"),
        default_fallbacks=("pro",),
        retry_allowance=20,
    )
    for _ in range(10):
        course = routing.start()
        assert failed(course, FORBIDDEN) == "b"
        course.failed(0.01, BUSY)
        course.next()
        assert course.move(Decision(Place.FALLBACK)).deployment.id == "c"
        course.answered(1.0)
        course.end()
        routing.clock.now += 10.0
    assert routing.state("a").circuit.opened == 0


@pytest.mark.parametrize("same_key", [True, False], ids=["same key", "other key"])
def test_a_deployment_that_forbids_everything_while_another_answers_rests_though_no_other_key_was_asked(
    same_key: bool,
) -> None:
    entries = [entry(name, api_key=Secret("one" if same_key else name)) for name in ("dead", "b")]
    routing = Routing(*entries, num_retries=0, cooldown_time=5.0)
    first = routing.start(preferred="b")
    first.answered(0.1)
    first.end()

    def asked(requests: int) -> int:
        places: Counter[str] = Counter()
        for _ in range(requests):
            course = routing.start()
            places[where(course)] += 1
            if where(course) == "dead":
                assert failed(course, FORBIDDEN) is None
            else:
                course.answered(0.1)
            course.end()
        return places["dead"]

    assert asked(100) == 4
    assert routing.state("dead").circuit.state(routing.clock.now) == "open"
    routing.clock.now += 5.0
    assert asked(100) == 1
    routing.clock.now += 5.0
    probe = routing.start("fast", preferred="dead")
    probe.answered(0.1)
    probe.end()
    assert routing.state("dead").circuit.state(routing.clock.now) == "closed"


def test_what_is_forbidden_everywhere_lets_nothing_rest() -> None:
    one = Secret("one")
    routing = Routing(entry("a", api_key=one), entry("b", api_key=one), num_retries=0)
    alone = Routing(entry("a"))
    for _ in range(50):
        for each in (routing, alone):
            course = each.start()
            assert failed(course, FORBIDDEN) is None
            course.end()
    assert {state.circuit.opened for each in (routing, alone) for state in each.router} == {0}


def test_what_is_forbidden_now_and_then_lets_nothing_rest() -> None:
    one = Secret("one")
    routing = Routing(entry("a", api_key=one), entry("b", api_key=one), num_retries=0)
    for number in range(200):
        course = routing.start(preferred="ab"[number % 2])
        if number % 4 < 2:
            failed(course, FORBIDDEN)
        else:
            course.answered(0.1)
        course.end()
    assert {state.circuit.opened for state in routing.router} == {0}


@pytest.mark.parametrize("failure", [KEY_REFUSED, FORBIDDEN])
@pytest.mark.parametrize("strategy", ["simple-shuffle", "least-busy", "latency-based-routing"])
def test_a_deployment_that_refuses_at_once_attracts_nothing(strategy: str, failure: Failure) -> None:
    routing = Routing(entry("dead"), entry("b"), entry("c"), routing_strategy=strategy)
    asked = Counter[str]()
    for _ in range(300):
        course = routing.start()
        asked[where(course)] += 1
        if where(course) == "dead":
            course.failed(0.01, failure)
            if (decision := course.next()) is not None:
                course.move(decision)
        course.answered(2.0)
        course.end()
        routing.clock.now += 0.1
    assert asked["dead"] <= 4 + 30 / 5 + 1


def test_a_decision_for_another_place_is_carried_out_at_another() -> None:
    routing = Routing(entry("a"), entry("b"))
    course = routing.start()
    first = where(course)
    course.failed(0.01, BUSY)
    assert course.next() == Decision(Place.OTHER)
    assert routing.state(first).running == 0
    assert course.move(Decision(Place.OTHER)).deployment.id != first


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    routing = Routing(entry("a", rpm=1), routing_strategy="usage-based-routing")
    routing.start().end()
    routing.clock.now -= 7_200.0
    assert where(routing.start()) == "a"
    routing = Routing(entry("a"))
    routing.rest("a", LIMITED)
    routing.clock.now -= 7_200.0
    routing.router.tick()
    state = routing.state("a")
    assert 0 < state.rest_until - routing.clock.now <= 300.0
