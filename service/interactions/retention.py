"""Retention: interactions expire by the rules of the configuration, unless they are held.

The first rule that matches an interaction counts; a legal hold beats them all. What runs is left until it has ended.
What expires is hidden at once; its content is erased when no follow-up needs it, on PostgreSQL by dropping whole days.
Any number of processes may do this at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from service.errors import DatabaseUnusable, ServiceError, ServiceUnavailable
from service.settings.model import RetentionRule
from service.store import migrate
from service.store.kept_holds import Holds
from service.store.records import now
from service.store.retained import Living
from service.store.retention import PAGE
from service.store.store import Store
from service.tasks import stop

logger = logging.getLogger(__name__)

_MICROSECONDS: Final = 1_000_000
#: Seconds until the first look after a start, so that a process that is started often does not look each time.
_FIRST_LOOK: Final = 60.0
#: Seconds within which what has an id may not have been committed yet, or by another clock: it is looked for again.
_SETTLED: Final = 600.0


@dataclass(slots=True)
class RuleReport:
    """What a rule found: due interactions with the bytes of their bodies, and those that are due but held or run.

    Those that are ``waiting`` have ended, and are due once their figures are derived: reports are exact for ever.
    """

    rule: RetentionRule
    due: int = 0
    bytes: int = 0
    held: int = 0
    running: int = 0
    waiting: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "rule": str(self.rule),
            "keep_seconds": self.rule.keep,
            "due": self.due,
            "bytes": self.bytes,
            "held": self.held,
            "running": self.running,
            "waiting": self.waiting,
        }


@dataclass(slots=True)
class Report:
    """One run; of a dry run only what is due is known."""

    at: int
    dry_run: bool
    rules: list[RuleReport]
    expired: int = 0
    erased: int = 0
    partitions: list[str] = field(default_factory=list)
    bytes_given_back: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "at": datetime.fromtimestamp(self.at / _MICROSECONDS, UTC).isoformat(timespec="seconds"),
            "dry_run": self.dry_run,
            "rules": [rule.told() for rule in self.rules],
            "expired": self.expired,
            "erased": self.erased,
            "partitions": self.partitions,
            "bytes_given_back": self.bytes_given_back,
        }


class Retention:
    """Applies the rules; owns the task that does so again and again."""

    def __init__(
        self,
        store: Store,
        rules: Sequence[RetentionRule],
        database_url: str,
        *,
        clock: Callable[[], int] = now,
    ) -> None:
        self._store = store
        self._rules = tuple(rules)
        self._database_url = database_url
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self, interval: float) -> None:
        """Apply the rules every ``interval`` seconds, if there are any."""
        if self._rules:
            self._task = asyncio.get_running_loop().create_task(
                self._keep_running(interval), name="retention"
            )

    async def close(self) -> None:
        """Stop; what is not done is done by the next run."""
        if self._task is not None:
            await stop(self._task)

    async def run(self, *, dry_run: bool = False, whole: bool = False) -> Report:
        """Apply the rules now, or with ``dry_run`` only tell what that would do.

        ``whole`` is as for :meth:`service.store.retained.Retained.give_back`. Raises
        :class:`~service.errors.ServiceUnavailable` when the database cannot be used; what was done by then stays done.
        """
        report = Report(self._clock(), dry_run, [RuleReport(rule) for rule in self._rules])
        await self._expire(report)
        if not dry_run:
            await self._clear(report, whole=whole)
        return report

    async def _expire(self, report: Report) -> None:
        kept = [rule.keep for rule in self._rules if rule.keep is not None]
        if not kept:
            return
        retained, before = self._store.retained, _key_before(report.at, min(kept))
        names = await self._store.holds.project_names()
        mark = after = await retained.mark()
        left: bytes | None = None
        while page := await retained.living(after, before):
            holds = await self._store.holds.all()
            due = [one.id for one in page if self._is_due(one, names.get(one.project_id), holds, report)]
            if due and not report.dry_run:
                await retained.expire(due, report.at, holds.count)
                still = {one.id for one in await retained.living(after, _behind(page[-1].id))}
                report.expired += sum(key not in still for key in due)
                due = [key for key in due if key not in still]
            if left is None:
                gone = set(due)
                left = next((one.id for one in page if one.id not in gone), None)
            after = page[-1].id
            if len(page) < PAGE:
                break
        if not report.dry_run:
            settled = _key_before(report.at, max(min(kept), _SETTLED))
            position = _ahead_of(settled if left is None else min(left, settled))
            if position > mark:
                await retained.move_mark(mark, position)
                # What came in meanwhile with a key that this run had gone by lowered no mark: it was still below.
                if late := await retained.living(mark, _behind(position)):
                    await retained.lower_mark(_ahead_of(late[0].id))

    def _is_due(self, one: Living, project: str | None, holds: Holds, report: Report) -> bool:
        found = next((rule for rule in report.rules if rule.rule.matches(project, one.labels)), None)
        if found is None or found.rule.keep is None or one.id >= _key_before(report.at, found.rule.keep):
            return False
        if holds.cover(one.project_id, one.id, one.labels):
            found.held += 1
        elif not one.ended:
            found.running += 1
        elif not one.derived:
            found.waiting += 1
        else:
            found.due += 1
            found.bytes += one.size
            return True
        return False

    async def _clear(self, report: Report, *, whole: bool) -> None:
        """Erase what is needed no more, whole days of it first."""
        moment = datetime.fromtimestamp(report.at / _MICROSECONDS, UTC)
        try:
            dropped = await migrate.drop_expired(self._database_url, moment)
        except DatabaseUnusable as error:
            raise ServiceUnavailable(f"Partitions cannot be dropped now: {error.reason}") from error
        report.partitions = [partition.name for partition in dropped]
        report.erased = await self._store.retained.erase(report.at)
        given_back = 0
        if whole or report.erased:
            given_back = await self._store.retained.give_back(whole=whole)
        report.bytes_given_back = given_back + sum(partition.size for partition in dropped)

    async def _keep_running(self, interval: float) -> None:
        await asyncio.sleep(min(interval, _FIRST_LOOK))
        while True:
            try:
                report = await self.run()
            except ServiceError as error:
                logger.warning("retention could not be applied, and will be tried again: %s", error)
            except Exception:
                logger.exception("retention failed in a way that was not foreseen")
            else:
                if report.expired or report.erased:
                    logger.info("%d interactions have expired, %d were erased", report.expired, report.erased)
            await asyncio.sleep(interval)


def _key_before(at: int, keep: float) -> bytes:
    """The smallest key of the moment ``keep`` seconds before ``at``: smaller ones are older."""
    milliseconds = max(int(at / 1000 - keep * 1000), 0)
    return (milliseconds << 80).to_bytes(16, "big")


def _behind(key: bytes) -> bytes:
    return (int.from_bytes(key, "big") + 1).to_bytes(16, "big")


def _ahead_of(key: bytes) -> bytes:
    return max(int.from_bytes(key, "big") - 1, 0).to_bytes(16, "big")
