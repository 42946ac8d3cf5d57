"""Replay: a stored request is sent again, as it was or with changes, and makes a new interaction.

It goes the way of every create, with the history that it had: the interaction that it followed is the one that the new
one follows, from upstream's copy or rebuilt. What comes of it is compared with what came of the original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.errors import FailedPrecondition, InvalidRequest, NotFound, ServiceError
from service.interactions.calls import REVISION_NUMBERS, Call, Principal
from service.interactions.comparison import compare
from service.interactions.create import Creator
from service.interactions.feed import Feed
from service.interactions.lifecycle import Lifecycle
from service.interactions.recorded import Recorded
from service.interactions.render import of_record
from service.interactions.resolve import Resolver
from service.settings.model import History
from service.store.kept_holds import labels_of
from service.store.records import Record
from service.store.replays import Figures
from service.store.store import Store
from service.wire import codec, envelope, ids
from service.wire.revision import Revision

_REVISIONS: Final = {number: revision for revision, number in REVISION_NUMBERS.items()}
#: Members of ``generation_config`` that a change may name by themselves (contract 2.3).
_GENERATION: Final = frozenset(
    {
        "temperature",
        "top_p",
        "seed",
        "stop_sequences",
        "max_output_tokens",
        "thinking_level",
        "thinking_summaries",
        "tool_choice",
    }
)
#: What makes a request go on with another one: a replay goes on with what its original did.
_HISTORY: Final = ("previous_interaction_id", "continuation_token")
#: Seconds between two looks at an interaction that still runs: the first, and the most.
_LOOK: Final = 0.1
_MOST_LOOK: Final = 5.0
#: Billionths of a dollar for an interaction with these figures and this ``usage``; None where that is not known.
Price = Callable[[Figures, dict[str, Any]], int | None]


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of sending a request again."""

    original: Record
    record: Record
    told: dict[str, Any]
    revision: Revision
    comparison: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a request is to be sent again: changes to its body, and how many seconds its end is waited for."""

    changes: Mapping[str, Any]
    wait: float
    upstream_headers: bytes = b""
    history: History | None = None


class Replayer:
    """Sends stored requests again; every call is scoped by the caller's project."""

    def __init__(
        self, store: Store, creator: Creator, lifecycle: Lifecycle, recorded: Recorded, price: Price
    ) -> None:
        self._store = store
        self._recorded = recorded
        self._price = price
        self._creator = creator
        self._lifecycle = lifecycle
        self._resolver = Resolver(store)

    async def replay(self, principal: Principal, reference: str, wish: Wish) -> Replay:
        """Send a request again and compare what comes of it.

        A request that upstream refuses is an interaction with the status ``failed``. Raises
        :class:`~service.errors.ServiceError` for what becomes no interaction: an unknown id, a history that is gone,
        a change that makes the request invalid, a project whose requests never go upstream.
        """
        if await self._recorded.pace(principal.project_id, None) is not None:
            raise FailedPrecondition(
                "This project gets recorded answers only ('general_settings.recorded_projects'), and a replay would go "
                "upstream. Take the project out of that setting to replay its interactions."
            )
        original, figures = await self._found(principal, reference)
        call = await self._call(principal, original, figures, wish)
        until = asyncio.get_running_loop().time() + wish.wait
        key = await self._run(call, until)
        record = await self._ended(principal, key, until)
        comparison = await self._compared(original, figures, record)
        _, told = await self._lifecycle.told(record)
        return Replay(original, record, told, call.revision, comparison)

    async def comparison(self, principal: Principal, reference: str) -> dict[str, Any]:
        """A replay compared with its original as they stand now; raises :class:`FailedPrecondition` for any other."""
        record, figures = await self._found(principal, reference)
        if figures.replay_of is None:
            raise FailedPrecondition(
                f"The interaction {reference!r} is no replay; there is nothing to compare it with."
            )
        original, _ = await self._found(principal, ids.to_text(figures.replay_of))
        found = await self._store.figures(principal.project_id, original.id)
        if found is None:
            raise NotFound(f"The interaction {ids.to_text(original.id)!r} was deleted.")
        return await self._compared(original, found, record)

    async def _found(self, principal: Principal, reference: str) -> tuple[Record, Figures]:
        key = ids.from_text(reference)
        if key is None:
            key = (await self._resolver.resolve(principal, reference)).id
        record = await self._store.recall(principal.project_id, key)
        figures = await self._store.figures(principal.project_id, key)
        if record is None or figures is None:
            raise NotFound(f"The interaction {reference[:200]!r} was not found.")
        return record, figures

    async def _call(self, principal: Principal, original: Record, figures: Figures, wish: Wish) -> Call:
        raw = await self._store.request_of(original.id)
        body = None if raw is None else codec.loads(raw)
        if raw is None or not isinstance(body, dict) or not ("input" in body or "continuation_token" in body):
            raise FailedPrecondition(
                f"The request of {ids.to_text(original.id)} is not known: it was made elsewhere, and upstream does not "
                "tell its input. It cannot be sent again."
            )
        # Whoever waited for the original is not told of its replay.
        asked = {name: value for name, value in body.items() if name != "webhook_config"}
        changed = changed_by(asked, wish.changes)
        if original.previous_id is not None:
            changed["previous_interaction_id"] = ids.to_text(original.previous_id)
        if changed != body:
            raw = codec.dumps(changed)
        return Call(
            principal,
            raw,
            envelope.parse(raw),
            _REVISIONS[figures.revision],
            wish.upstream_headers,
            wish.history,
            labels=labels_of(figures.labels),
            replay_of=original.id,
        )

    async def _run(self, call: Call, until: float) -> bytes:
        """Create the interaction and, of a stream, wait for its last event; its key, also when it failed.

        In the background that is waited for no longer than ``until``, in seconds of the loop's clock.
        """
        try:
            if not call.envelope.stream:
                return _key((await self._creator.create(call)).id)
            opened = await self._creator.stream(call)
        except ServiceError as error:
            if error.interaction_id is None:
                raise
            return _key(error.interaction_id)
        if not isinstance(opened, Feed):
            return _key(opened.id)
        loop = asyncio.get_running_loop()
        while not opened.ended:
            left = until - loop.time() if call.envelope.background else _MOST_LOOK
            if left <= 0:
                break
            await opened.changed(min(left, _MOST_LOOK))
        return opened.key

    async def _ended(self, principal: Principal, key: bytes, until: float) -> Record:
        """The interaction when it has ended, or as it stands then."""
        loop = asyncio.get_running_loop()
        pause = _LOOK
        while True:
            record = await self._store.recall(principal.project_id, key)
            if record is None:
                raise NotFound(f"The interaction {ids.to_text(key)!r} was deleted while it was awaited.")
            if record.terminal or loop.time() >= until:
                return record
            if (record := await self._lifecycle.refreshed(record)).terminal:
                return record
            await asyncio.sleep(min(pause, max(until - loop.time(), 0)))
            pause = min(2 * pause, _MOST_LOOK)

    async def _compared(self, original: Record, figures: Figures, record: Record) -> dict[str, Any]:
        found = await self._store.figures(record.project_id, record.id)
        if found is None:
            raise NotFound(f"The interaction {ids.to_text(record.id)!r} was deleted.")
        return await asyncio.to_thread(self._compare, original, figures, record, found)

    def _compare(self, original: Record, figures: Figures, record: Record, found: Figures) -> dict[str, Any]:
        """In a thread: to compare long texts takes a while, and so does to read prices for the first time."""
        return compare(original, self._priced(original, figures), record, self._priced(record, found))

    def _priced(self, record: Record, figures: Figures) -> Figures:
        """The figures with a cost; that of an interaction which has just ended stands in no row yet."""
        if figures.cost_nanos is not None:
            return figures
        usage = of_record(record).get("usage")
        return figures._replace(cost_nanos=self._price(figures, usage if isinstance(usage, dict) else {}))


def changed_by(body: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A request with changes merged into it: objects member by member, null removes (RFC 7396).

    The usual members of ``generation_config`` may be named by themselves. Raises :class:`InvalidRequest` for a change
    of what the request goes on with.
    """
    for name in _HISTORY:
        if name in changes:
            raise InvalidRequest(
                f"'{name}' cannot be changed: a replay has the history that its original had. Leave it out, or create "
                "a new interaction."
            )
    lifted = {name: value for name, value in changes.items() if name in _GENERATION}
    changed = _merged(body, {name: value for name, value in changes.items() if name not in lifted})
    if lifted:
        changed = _merged(changed, {"generation_config": lifted})
    # Exactly one of the two says who answers.
    for name, other in (("model", "agent"), ("agent", "model")):
        if changes.get(name) is not None and other not in changes:
            changed.pop(other, None)
    return changed


def _merged(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value) if isinstance(value, dict) else value
    return merged


def _key(text: str) -> bytes:
    key = ids.from_text(text)
    if key is None:
        raise ValueError(f"{text!r} is no id of this service")
    return key
