"""What the resources of a process share with one another, and no handler needs; and what the process is there for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service.audit.indexer import Indexer
from service.interactions.deadlines import Deadlines
from service.interactions.media import MediaKeeper
from service.settings import Settings
from service.store.backend import Backend
from service.store.codec import Codec
from service.upstream.deployments import Deployments
from service.upstream.transport import Transport
from service.webhooks.destinations import Destinations


@dataclass(frozen=True, slots=True)
class Duties:
    """What a process does of its own accord, beside answering."""

    #: Brings the database to this version's schema; otherwise one that stands elsewhere is refused.
    migrates: bool = True
    #: Sees interactions to their end: its own, and what processes that died have left.
    follows: bool = True
    #: Derives what lists, searches and reports are made from.
    derives: bool = True
    #: Has the prices of whatever is on the database: what its configuration does not name has no price of its own.
    prices: bool = True
    #: Applies rules of retention, delivers webhooks, makes partitions and ends deletes that were cut short.
    keeps: bool = True


SERVING: Final = Duties()
SETTINGS: Final = web.AppKey("settings", Settings)
TRANSPORT: Final = web.AppKey("transport", Transport)
DEPLOYMENTS: Final = web.AppKey("deployments", Deployments)
DEADLINES: Final = web.AppKey("deadlines", Deadlines)
INDEXER: Final = web.AppKey("indexer", Indexer)
BACKEND: Final = web.AppKey[Backend]("backend", Backend)
CODEC: Final = web.AppKey("codec", Codec)
DUTIES: Final = web.AppKey("duties", Duties)
MEDIA_KEEPER: Final = web.AppKey("media_keeper", MediaKeeper)
DESTINATIONS: Final = web.AppKey("destinations", Destinations)


def stop_clock(app: web.Application) -> Callable[[], float]:
    """Tells the seconds since the process was told to stop."""
    stopping_at: list[float] = []

    async def note_stop(_: web.Application) -> None:
        stopping_at.append(asyncio.get_running_loop().time())

    app.on_shutdown.append(note_stop)
    return lambda: asyncio.get_running_loop().time() - stopping_at[0] if stopping_at else 0.0
