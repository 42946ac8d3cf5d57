"""How many runs are asked about at a time, divided so that an upstream that does not answer holds up no other one.

A deployment takes another place only while it has fewer than are free. So several that come together have equal shares,
and one that comes first has no more than half of them, the next no more than half of what is left, and so on. Its first
place is its own, whatever the others have: however many of them do not answer, every other one is asked.
"""

from __future__ import annotations

from collections import Counter, deque

from service.interactions.run import Run


class Places:
    """``most`` places, and the due runs that wait for them; they are divided when ``shared`` by several deployments.

    Where they are, there is one more for each deployment that would have none.
    """

    def __init__(self, most: int, *, shared: bool) -> None:
        self._most = most
        self._shared = shared
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[int, Run]]] = {}

    def wait(self, run: Run) -> None:
        """Let a run wait, as long as it keeps the place in the schedule that it has now."""
        self._waiting.setdefault(run.claim.deployment_id, deque()).append((run.place, run))

    def next(self) -> Run | None:
        """Whose turn it is, which goes on waiting until it is taken: of the deployment that has the fewest places."""
        free = self._most - self._taken.total()
        for deployment in sorted(self._waiting, key=self._taken.__getitem__):
            taken = self._taken[deployment]
            if not self._may_take(taken, free):
                return None
            if (run := self._first(deployment)) is not None:
                return run
        return None

    def _may_take(self, taken: int, free: int) -> bool:
        if not self._shared:
            return free > 0
        return taken == 0 or taken < free

    def take(self, run: Run) -> None:
        """Give a run a place that was told to be the next."""
        deployment = run.claim.deployment_id
        self._waiting[deployment].popleft()
        self._taken[deployment] += 1

    def leave(self, run: Run) -> None:
        """Have the place back."""
        self._taken[run.claim.deployment_id] -= 1

    def _first(self, deployment: str) -> Run | None:
        """The first that waits and was not asked about otherwise, or dropped, meanwhile."""
        waiting = self._waiting[deployment]
        while waiting:
            place, run = waiting[0]
            if place == run.place:
                return run
            waiting.popleft()
        del self._waiting[deployment]
        return None
