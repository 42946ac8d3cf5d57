from __future__ import annotations

from service.upstream.routing.budget import FLOOR, RATIO, WINDOW, RetryBudget


def allowed(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.retry(now):
        count += 1
    return count


def test_a_quiet_service_may_retry_a_little() -> None:
    budget = RetryBudget()
    assert allowed(budget, 1.0) == FLOOR
    assert (budget.spent, budget.refused) == (FLOOR, 1)


def test_traffic_allows_a_tenth_more() -> None:
    budget = RetryBudget()
    budget.tick(1.0)
    for _ in range(1_000):
        budget.request()
    assert allowed(budget, 1.0) == FLOOR + 1_000 * RATIO


def test_both_fade() -> None:
    budget = RetryBudget()
    budget.tick(1.0)
    for _ in range(10_000):
        budget.request()
    allowed(budget, 1.0)
    assert FLOOR - 1 <= allowed(budget, 1.0 + 20 * WINDOW) <= FLOOR


def test_an_outage_of_everything_adds_no_more_than_the_budget() -> None:
    budget = RetryBudget()
    retries = 0
    for second in range(60):
        for tick in range(100):
            budget.request()
            while budget.retry(second + tick / 100):
                retries += 1
    assert retries <= RATIO * 6_000 + FLOOR * (1 + 60 / WINDOW)
