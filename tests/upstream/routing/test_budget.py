from __future__ import annotations

import pytest

from service.upstream.routing.budget import RATIO, WINDOW, RetryBudget

ALLOWANCE = 6


def allowed(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.retry(now):
        count += 1
    return count


def test_a_quiet_service_may_retry_a_little() -> None:
    budget = RetryBudget(ALLOWANCE)
    assert allowed(budget, 1.0) == ALLOWANCE
    assert (budget.spent, budget.refused) == (ALLOWANCE, 1)


def test_traffic_allows_a_tenth_more() -> None:
    budget = RetryBudget(ALLOWANCE)
    budget.tick(1.0)
    for _ in range(1_000):
        budget.request()
    assert allowed(budget, 1.0) == ALLOWANCE + 1_000 * RATIO


def test_both_fade() -> None:
    budget = RetryBudget(ALLOWANCE)
    budget.tick(1.0)
    for _ in range(10_000):
        budget.request()
    allowed(budget, 1.0)
    assert ALLOWANCE - 1 <= allowed(budget, 1.0 + 20 * WINDOW) <= ALLOWANCE


@pytest.mark.parametrize("allowance", [0, ALLOWANCE])
def test_an_outage_of_everything_adds_no_more_than_the_budget(allowance: int) -> None:
    budget = RetryBudget(allowance)
    retries = 0
    for second in range(60):
        for tick in range(100):
            budget.request()
            while budget.retry(second + tick / 100):
                retries += 1
    assert retries <= RATIO * 6_000 + allowance * (1 + 60 / WINDOW)
