from __future__ import annotations

from service.upstream.routing.circuit import Circuit


def failing(circuit: Circuit, times: int, now: float = 0.0) -> Circuit:
    for _ in range(times):
        circuit.failed(now, probe=False)
    return circuit


def test_it_opens_when_more_attempts_in_a_row_fail_than_are_allowed() -> None:
    circuit = failing(Circuit(3, 5.0), 3)
    assert circuit.state(0.0) == "closed"
    circuit.failed(1.0, probe=False)
    assert circuit.state(1.0) == "open"
    assert circuit.rests_until() == 6.0
    assert circuit.opened == 1


def test_it_stays_closed_where_few_of_many_fail() -> None:
    circuit = Circuit(3, 5.0)
    for _ in range(20):
        failing(circuit, 1)
        for _ in range(9):
            circuit.succeeded(0.0, probe=False)
    assert circuit.state(0.0) == "closed"


def test_it_opens_where_every_other_fails() -> None:
    circuit = Circuit(3, 5.0)
    for _ in range(4):
        circuit.succeeded(0.0, probe=False)
        failing(circuit, 1)
    assert circuit.state(0.0) == "open"


def test_failures_of_an_earlier_minute_do_not_count_towards_the_share() -> None:
    circuit = Circuit(1, 5.0)
    for minute in range(5):
        failing(circuit, 1, minute * 100.0)
        circuit.succeeded(minute * 100.0, probe=False)
    assert circuit.state(401.0) == "closed"


def test_one_probe_decides_after_the_cooldown() -> None:
    circuit = failing(Circuit(0, 5.0), 1)
    assert circuit.state(5.0) == "half-open"
    assert circuit.enter(5.0)
    assert circuit.rests_until() == 10.0
    assert not circuit.enter(5.0)
    circuit.failed(6.0, probe=True)
    assert circuit.rests_until() == 11.0
    assert circuit.enter(11.0)
    circuit.succeeded(11.0, probe=True)
    assert circuit.state(11.0) == "closed"
    assert circuit.rests_until() == 0.0


def test_a_probe_that_says_nothing_is_followed_by_another() -> None:
    circuit = failing(Circuit(0, 5.0), 1)
    assert circuit.enter(5.0)
    circuit.leave(probe=True)
    assert circuit.enter(5.0)


def test_a_probe_without_an_answer_is_followed_by_another_after_another_cooldown() -> None:
    circuit = failing(Circuit(0, 5.0), 1)
    assert circuit.enter(5.0)
    assert not circuit.enter(9.9)
    assert circuit.enter(10.0)
    circuit.succeeded(11.0, probe=True)
    assert circuit.state(11.0) == "closed"


def test_a_probe_that_fails_late_is_one_failure_where_a_later_one_has_closed_it() -> None:
    circuit = failing(Circuit(1, 5.0), 2)
    assert circuit.enter(5.0)
    assert circuit.enter(10.0)
    circuit.succeeded(11.0, probe=True)
    circuit.failed(12.0, probe=True)
    assert circuit.state(12.0) == "closed"


def test_a_probe_that_is_late_changes_nothing_when_a_later_one_has_failed() -> None:
    circuit = failing(Circuit(0, 5.0), 1)
    assert circuit.enter(5.0)
    assert circuit.enter(10.0)
    circuit.failed(11.0, probe=True, asked=30.0)
    circuit.succeeded(12.0, probe=True)
    assert (circuit.rests_until(), circuit.asked) == (41.0, True)


def test_streams_that_open_and_break_off_open_it() -> None:
    circuit = Circuit(2, 5.0)
    for _ in range(3):
        assert circuit.state(0.0) == "closed"
        circuit.succeeded(0.0, probe=False)
        circuit.broke(0.0)
    assert circuit.state(0.0) == "open"


def test_a_few_broken_streams_among_many_whole_ones_do_not_open_it() -> None:
    circuit = Circuit(2, 5.0)
    for number in range(100):
        circuit.succeeded(0.0, probe=False)
        if number % 5 == 4:
            circuit.broke(0.0)
    assert circuit.state(0.0) == "closed"


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    circuit = failing(Circuit(0, 5.0), 1)
    failing(circuit, 10, 3.0)
    circuit.succeeded(4.0, probe=False)
    assert circuit.rests_until() == 5.0
    assert circuit.opened == 1


def test_upstream_is_left_alone_as_long_as_it_asks_within_reason() -> None:
    circuit = Circuit(3, 5.0)
    circuit.failed(0.0, probe=False, asked=34.0)
    assert (circuit.rests_until(), circuit.asked) == (34.0, True)
    circuit = Circuit(3, 5.0)
    circuit.failed(0.0, probe=False, asked=1e9)
    assert circuit.rests_until() == 300.0


def test_another_process_may_have_opened_it() -> None:
    circuit = Circuit(3, 5.0)
    circuit.told(9.0, asked=False)
    assert circuit.state(8.0) == "open"
    circuit.told(4.0, asked=True)
    assert (circuit.rests_until(), circuit.asked) == (9.0, False)
    assert circuit.enter(9.0)


def test_it_never_opens_where_cooldowns_are_disabled() -> None:
    circuit = failing(Circuit(0, 5.0, enabled=False), 50)
    circuit.failed(0.0, probe=False, asked=30.0)
    circuit.told(99.0, asked=True)
    assert circuit.state(0.0) == "closed"
    assert circuit.rests_until() == 0.0
