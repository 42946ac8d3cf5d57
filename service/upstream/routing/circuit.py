"""Whether a deployment is asked at all: its circuit is closed, open for a while, or half-open for one probe.

It opens when more than ``allowed_fails`` attempts in a row have failed, or more than that many within a minute and a
quarter of all in it; when it has forbidden more than that many in a row while others have answered; and at once when
upstream says how long it wants to be left alone. A stream that breaks off after it was opened is a failure as well.
After its cooldown one request is let through: its success closes the circuit, its failure opens it again. While it has
no answer, one more is let through whenever another cooldown has passed: an answer may take minutes, and a deployment
that is well again must not be shut out for as long.
"""

from __future__ import annotations

from math import inf
from typing import Final

_MINUTE: Final = 60.0
#: The part of a minute's attempts that must have failed, where they did not fail in a row.
_SHARE: Final = 0.25
#: Seconds for which upstream is left alone at most, whatever it asks for.
_LONGEST_REST: Final = 300.0


class Circuit:
    """Times are seconds of one clock; ``until`` is when the cooldown ends, 0 while the circuit is closed."""

    __slots__ = (
        "_allowed",
        "_calls",
        "_cooldown",
        "_fails",
        "_minute",
        "_next_probe",
        "_row",
        "asked",
        "opened",
        "until",
    )

    def __init__(self, allowed_fails: int, cooldown: float, *, enabled: bool = True) -> None:
        self._allowed: float = allowed_fails if enabled else inf
        self._cooldown = cooldown
        self._row = 0
        self._minute = 0.0
        self._fails = 0
        self._calls = 0
        self.until = 0.0
        #: When another probe may follow the last one, which has no answer; 0 while there is none.
        self._next_probe = 0.0
        #: Whether it is open because upstream has asked to be left alone.
        self.asked = False
        #: How often it has opened.
        self.opened = 0

    def state(self, now: float) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self.until:
            return "closed"
        return "half-open" if self.until <= now else "open"

    def rests_until(self) -> float:
        """When the next request may be let through."""
        until, next_probe = self.until, self._next_probe
        return until if until >= next_probe else next_probe

    def bound(self, now: float) -> bool:
        """Rest no longer than there can be a reason for, though the clock was set back; whether that is less."""
        longest = now + max(_LONGEST_REST, self._cooldown)
        if self.rests_until() <= longest:
            return False
        self.until, self._next_probe = min(self.until, longest), min(self._next_probe, longest)
        return True

    def tolerates(self, fails: int) -> bool:
        """Whether so many failures in a row leave it closed."""
        return fails <= self._allowed

    def enter(self, now: float) -> bool:
        """A request is let through; whether it is the probe."""
        if self.until and self.rests_until() <= now:
            self._next_probe = now + self._cooldown
            return True
        return False

    def leave(self, *, probe: bool) -> None:
        """A request ended that says nothing about the deployment."""
        if probe:
            self._next_probe = 0.0

    def succeeded(self, now: float, *, probe: bool) -> None:
        """The deployment has answered."""
        self._row = 0
        self._count(now)
        if not probe:
            return
        self._next_probe = 0.0
        # A later probe may have opened it again: what was under way then changes nothing.
        if self.until <= now:
            self.until = 0.0
            self.asked = False
            self._fails = 0

    def failed(self, now: float, *, probe: bool, asked: float | None = None) -> None:
        """The deployment has failed, and may have ``asked`` to be left alone for so many seconds."""
        self._count(now)
        self._row += 1
        self._fails += 1
        if probe:
            self._next_probe = 0.0
        if self._allowed == inf:
            return
        if asked:
            self._open(now, min(asked, _LONGEST_REST))
            self.asked = True
        elif probe if self.until else self._too_many():
            self._open(now, self._cooldown)

    def broke(self, now: float) -> None:
        """What the deployment had begun to answer, and what counted as its success, has broken off."""
        self._roll(now)
        self._row += 1
        self._fails += 1
        if self._allowed < inf and not self.until and self._too_many():
            self._open(now, self._cooldown)

    def suspected(self, now: float, *, probe: bool) -> None:
        """The deployment refuses all that it is asked, as far as is known, while others answer."""
        if probe:
            self._next_probe = 0.0
        if self._allowed < inf and (probe or not self.until):
            self._open(now, self._cooldown)

    def told(self, until: float, *, asked: bool) -> None:
        """Another process has opened its circuit of this deployment."""
        if self._allowed != inf and until > self.until:
            self.until = until
            self.asked = asked

    def _too_many(self) -> bool:
        return self._row > self._allowed or (
            self._fails > self._allowed and self._fails >= _SHARE * self._calls
        )

    def _open(self, now: float, seconds: float) -> None:
        if self.until <= now:
            self.opened += 1
            self.asked = False
        self.until = max(self.until, now + seconds)

    def _count(self, now: float) -> None:
        if now - self._minute > _MINUTE:
            self._roll(now)
        self._calls += 1

    def _roll(self, now: float) -> None:
        if now - self._minute > _MINUTE:
            self._minute = now
            self._fails = self._calls = 0
