"""Webhooks as the domain sees them: who is to be told, what is due, and what came of telling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.store import webhooks
from service.store.entries import Write
from service.store.records import Outcome, now, storable
from service.store.statement import Fetch, Query
from service.store.writer import Writer
from service.wire import codec, ids
from service.wire.webhooks import WebhookConfig

#: Seconds that the report of a delivery waits for the database; without it the receiver is told again.
_PATIENCE: Final = 30.0
#: An error text longer than this is cut.
_ERROR_KEPT: Final = 300

#: Executes a write that gives rows; raises :class:`~service.errors.ServiceUnavailable`.
Take = Callable[[Query, Mapping[str, Any]], Awaitable[Sequence[Sequence[Any]]]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receiver to be told of one interaction, by whoever holds the token; ``tries`` were made before."""

    interaction_id: bytes
    place: int
    uri: str
    user_metadata: dict[str, Any] | None
    tries: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """What there is to tell."""

    project_id: bytes
    status: str
    completed_at: int


class KeptWebhooks:
    """Every method raises :class:`~service.errors.ServiceUnavailable` when the database cannot be used."""

    def __init__(self, fetch: Fetch, take: Take, writer: Writer) -> None:
        self._fetch = fetch
        self._take = take
        self._writer = writer
        #: Set when this process has committed an outcome that somebody may wish to be told of.
        self.news = asyncio.Event()

    async def config(self, key: bytes) -> dict[str, Any] | None:
        """``webhook_config`` as the create of this interaction had it."""
        rows = await self._fetch(webhooks.WEBHOOKS_OF, {"id": key})
        if not rows:
            return None
        metadata = rows[0][1]
        return WebhookConfig(tuple(uri for uri, _ in rows), _read(metadata)).shown()

    async def claim(self, until: int, most: int) -> list[Delivery]:
        """Take up to ``most`` deliveries that are due; others may take them again after ``until``."""
        token = ids.mint()
        rows = await self._take(webhooks.CLAIM, {"now": now(), "until": until, "most": most, "token": token})
        return [
            Delivery(key, place, uri, _read(metadata), tries, token)
            for key, place, uri, metadata, tries in rows
        ]

    async def next_due(self) -> int | None:
        """When the next delivery is due; None without any."""
        rows = await self._fetch(webhooks.NEXT_DUE, {})
        return rows[0][0] if rows else None

    async def ended(self, key: bytes) -> Ended | None:
        """How an interaction ended; None when it is deleted."""
        rows = await self._fetch(webhooks.ENDED, {"id": key})
        return Ended(*rows[0]) if rows else None

    async def settle(self, delivery: Delivery, http_status: int | None, error: str | None) -> None:
        """End a delivery: the receiver was told, or it is given up."""
        await self._report(delivery, None, delivery.tries + 1, now(), http_status, error)

    async def put_off(
        self, delivery: Delivery, due_at: int, http_status: int | None, error: str | None
    ) -> None:
        """A try has failed; the next is due then."""
        await self._report(delivery, due_at, delivery.tries + 1, None, http_status, error)

    async def hand_back(self, delivery: Delivery, due_at: int) -> None:
        """Nothing was tried; anybody may from then on."""
        await self._report(delivery, due_at, delivery.tries, None, None, None)

    async def _report(
        self,
        delivery: Delivery,
        due_at: int | None,
        tries: int,
        settled_at: int | None,
        http_status: int | None,
        error: str | None,
    ) -> None:
        told = storable(error[:_ERROR_KEPT]) if error is not None else None
        row = (
            delivery.interaction_id,
            delivery.place,
            delivery.token,
            due_at,
            tries,
            settled_at,
            http_status,
            told,
        )
        await self._writer.put((webhooks.REPORT, row), patience=_PATIENCE)


def register(key: bytes, config: WebhookConfig | None) -> list[Write]:
    """What the transaction of an intent has to write for those that wish to be told of its outcome."""
    if config is None:
        return []
    metadata = None if config.user_metadata is None else codec.dumps(config.user_metadata).decode()
    return [(webhooks.REGISTER, (key, place, uri, metadata)) for place, uri in enumerate(config.uris)]


def end(outcome: Outcome, *, refused: bool) -> Write:
    """What the transaction of a terminal outcome has to write: they are told, or nobody is to be."""
    if refused:
        return webhooks.REFUSE, (outcome.id, outcome.owner_id)
    return webhooks.ANNOUNCE, (outcome.id, outcome.owner_id, outcome.completed_at)


def forget(key: bytes) -> Write:
    """Tell nobody of this interaction."""
    return webhooks.FORGET_WEBHOOKS, (key,)


def _read(metadata: str | None) -> dict[str, Any] | None:
    return None if metadata is None else codec.loads(metadata.encode())
