"""What this process knows of one deployment: how busy, fast, used and healthy it is.

A choice among a hundred deployments must cost microseconds, so everything a choice looks at is a plain attribute that
is kept up to date when something happens to this deployment.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Final

from service.upstream.deployments import Deployment
from service.upstream.routing.circuit import Circuit
from service.upstream.routing.retry import Failure, Kind

MINUTE: Final = 60.0
#: Seconds after which an average latency that no answer has renewed is not to be relied on.
STALE: Final = 5.0
#: How much of the average one answer is.
_NEWEST: Final = 0.25
#: How much of the average of what is under way one look is.
_LAST_LOOK: Final = 0.5
#: Where there is no limit, usage is compared by tokens, then by requests; both far below any share of a limit.
_PER_TOKEN: Final = 1e-12
_PER_REQUEST: Final = 1e-15
_UNKNOWN_COST: Final = inf
#: Refusals that say something about the deployment and not about the request.
_UNHEALTHY: Final = frozenset({408, 429})


class State:
    """One deployment; times are seconds since the epoch, latencies seconds."""

    __slots__ = (
        "_bounded",
        "_doubts",
        "_enforced",
        "_forbidden",
        "_forbidden_since",
        "_minute_ends",
        "_parallel",
        "_weighed",
        "answered_at",
        "average",
        "busy",
        "changed",
        "circuit",
        "cost",
        "counts",
        "deployment",
        "elsewhere_requests",
        "elsewhere_running",
        "elsewhere_tokens",
        "expected",
        "id",
        "latency",
        "order",
        "requests",
        "rest_until",
        "rpm",
        "running",
        "sampled_at",
        "share",
        "tokens",
        "tpm",
        "weight",
    )

    def __init__(self, deployment: Deployment, circuit: Circuit, *, enforced: bool) -> None:
        settings = deployment.settings
        self.id = deployment.id
        self.deployment = deployment
        self.circuit = circuit
        self.order = settings.order
        self.cost = _cost(settings.input_cost_per_token, settings.output_cost_per_token)
        self.weight = settings.weight
        self.rpm = settings.rpm
        self.tpm = settings.tpm
        self._parallel: float = settings.max_parallel_requests or inf
        #: Whether it matters how much of it is used, and whether it may not be used beyond that.
        self._weighed = enforced
        self._enforced = enforced and bool(settings.rpm or settings.tpm)
        #: Whether a request more or less can change when it rests.
        self._bounded = enforced or self._parallel < inf
        self._minute_ends = 0.0
        #: What was forbidden here of which it is not known yet whether another key may.
        self._doubts = 0
        #: How much was forbidden here in a row that was asked of no other key, and since when.
        self._forbidden = 0
        self._forbidden_since = 0.0
        #: When it has answered last.
        self.answered_at = 0.0
        #: No request goes there before this time; infinite while it is full, or in doubt of too much.
        self.rest_until = 0.0
        #: Creates and streams under way here; in another process, on the average of those that have any; and together.
        self.running = 0
        self.elsewhere_running = 0.0
        self.busy = 0.0
        #: Those here, on an average of the last looks (:meth:`look`).
        self.average = 0.0
        #: A running average; 0 until there is an answer.
        self.latency = 0.0
        self.sampled_at = 0.0
        #: Seconds in which one more request may be answered: the average times those that are under way then.
        self.expected = 0.0
        #: Of the current minute, in this process and in all others on the database.
        self.requests = 0
        self.tokens = 0
        self.elsewhere_requests = 0
        self.elsewhere_tokens = 0
        #: The part of its limits that is used up, where that matters.
        self.share = 0.0
        #: Attempts since the start of the process, by how they ended; of those that were answered, ``broken`` ones are
        #: the streams that broke off.
        self.counts: Counter[str] = Counter()
        #: Whether other processes have not been told what happened here.
        self.changed = False

    @property
    def full(self) -> bool:
        """Whether it has as many requests under way as it may."""
        return self.running >= self._parallel

    @property
    def used_up(self) -> bool:
        """Whether this minute's requests or tokens are used up."""
        return self._enforced and self.share >= 1.0

    def shares_key(self, other: State) -> bool:
        """Whether the other is at the same address with the same key, or this one itself."""
        one, two = self.deployment, other.deployment
        return (one.origin, one.headers) == (two.origin, two.headers)

    def take(self, now: float) -> bool:
        """One more request goes there; whether it is the probe of a half-open circuit."""
        self.requests += 1
        self.changed = True
        probe = self.circuit.enter(now)
        self._run(1)
        if probe:
            self._settle()
        return probe

    def join(self) -> None:
        """A stream that was begun before is read from there: no request, and no probe."""
        self._run(1)

    def release(self, *, probe: bool = False) -> None:
        """A request is over."""
        self._run(-1)
        if probe:
            self.circuit.leave(probe=True)
            self._settle()

    def answered(self, now: float, seconds: float, *, probe: bool) -> None:
        """Upstream has answered, or opened a stream, after so many seconds."""
        self.counts["answered"] += 1
        self.answered_at = now
        self._forbidden = 0
        self._sample(now, seconds)
        self.circuit.succeeded(now, probe=probe)
        if probe:
            self._settle()

    def failed(self, now: float, seconds: float, failure: Failure, *, probe: bool) -> None:
        """An attempt has failed.

        Of one that was forbidden :meth:`cleared`, :meth:`suspected` or :meth:`blamed` must be said later.
        """
        self.counts[failure.kind.value] += 1
        if failure.kind is Kind.FORBIDDEN:
            self._doubts += 1
            self._settle()
            return
        if failure.kind is Kind.LOST:
            self._sample(now, seconds)
        if not _says_unhealthy(failure):
            self._forbidden = 0
            self.circuit.succeeded(now, probe=probe)
        else:
            asked = failure.retry_after if failure.kind is Kind.REFUSED else None
            self.circuit.failed(now, probe=probe, asked=asked)
            self.changed = True
        self._settle()

    def cleared(self, *, probe: bool) -> None:
        """What was forbidden here is forbidden to another key as well, and says nothing about the deployment."""
        self._doubts -= 1
        self.circuit.leave(probe=probe)
        self._settle()

    def suspected(self, now: float, *, probe: bool, others_answered_at: float) -> None:
        """What was forbidden here was asked of no other key; when another deployment of the model has answered last."""
        self._doubts -= 1
        self._forbidden += 1
        if self._forbidden == 1:
            self._forbidden_since = now
        if others_answered_at < self._forbidden_since or self.circuit.tolerates(self._forbidden):
            self.circuit.leave(probe=probe)
        else:
            self.circuit.suspected(now, probe=probe)
            self.changed = True
        self._settle()

    def blamed(self, now: float, *, probe: bool) -> None:
        """What was forbidden here is allowed to another key."""
        self._doubts -= 1
        self.circuit.failed(now, probe=probe)
        self.changed = True
        self._settle()

    def broke(self, now: float) -> None:
        """A stream that it had opened has broken off."""
        self.counts["broken"] += 1
        self.circuit.broke(now)
        self.changed = True
        self._settle()

    def spent(self, tokens: int) -> None:
        """A request has used so many tokens."""
        self.tokens += tokens
        self.changed = True
        if self._weighed:
            self._settle()

    def told_usage(self, requests: int, tokens: int) -> None:
        """What all other processes have sent there this minute."""
        self.elsewhere_requests = requests
        self.elsewhere_tokens = tokens
        self._settle()

    def look(self) -> None:
        """See how busy it is; to be called every second or so."""
        self.average += (self.running - self.average) * _LAST_LOOK

    def told_load(self, running: float) -> None:
        """What another process has under way there, on average."""
        if running != self.elsewhere_running:
            self.elsewhere_running = running
            self._settle()

    def told_latency(self, now: float, seconds: float) -> None:
        """How long answers take another process, to be believed where this one has had none for long."""
        self.latency = seconds
        # Whoever was told tells nobody, and begins to forget at once when it is told no more.
        self.sampled_at = now - STALE
        self._settle()

    def told_cooling(self, until: float, *, asked: bool) -> None:
        """Another process lets it rest until then."""
        self.circuit.told(until, asked=asked)
        self._settle()

    def roll(self, minute_ends: float) -> None:
        """A new minute begins."""
        self.requests = self.tokens = self.elsewhere_requests = self.elsewhere_tokens = 0
        self._minute_ends = minute_ends
        self._settle()

    def fade(self, now: float, factor: float) -> None:
        """An average that no answer has renewed for a while is believed less and less."""
        if self.circuit.bound(now):
            self._settle()
        if now - self.sampled_at > STALE:
            self.latency *= factor
            self.expected *= factor

    def _sample(self, now: float, seconds: float) -> None:
        self.latency += (seconds - self.latency) * (_NEWEST if self.latency else 1.0)
        self.sampled_at = now
        self.expected = self.latency * (self.busy + 1)

    def _run(self, more: int) -> None:
        """So many more requests are under way here; whether it rests hangs on that only where there is a bound."""
        running = self.running = self.running + more
        busy = self.busy = running + self.elsewhere_running
        self.expected = self.latency * (busy + 1)
        if self._bounded:
            self._settle()

    def _settle(self) -> None:
        running = self.running
        busy = self.busy = running + self.elsewhere_running
        self.expected = self.latency * (busy + 1)
        until = self.circuit.rests_until()
        if self._weighed:
            self.share = self._used()
            if self._enforced and self.share >= 1.0 and self._minute_ends > until:
                until = self._minute_ends
        if running >= self._parallel or (self._doubts and not self.circuit.tolerates(self._doubts)):
            until = inf
        self.rest_until = until

    def _used(self) -> float:
        requests = self.requests + self.elsewhere_requests
        tokens = self.tokens + self.elsewhere_tokens
        if not self.rpm and not self.tpm:
            return tokens * _PER_TOKEN + requests * _PER_REQUEST
        share = requests / self.rpm if self.rpm else 0.0
        return max(share, tokens / self.tpm) if self.tpm else share


def _says_unhealthy(failure: Failure) -> bool:
    if failure.kind is Kind.REFUSED:
        return failure.status in _UNHEALTHY or failure.status >= 500
    return failure.kind is not Kind.FINAL


def _cost(given: float | None, made: float | None) -> float:
    return _UNKNOWN_COST if given is None and made is None else (given or 0.0) + (made or 0.0)
