"""The domain of a process: what creates, reads and follows interactions, put together, started and ended in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service.api.keys import (
    CREATOR,
    LIFECYCLE,
    PRICES,
    RECORDED,
    REPEATS,
    REPLAYER,
    REQUESTS,
    ROUTER,
    STORE,
    STREAMS,
)
from service.api.metrics import REGISTRY, ServiceFigures
from service.errors import DatabaseUnusable, ServiceError
from service.interactions.adoption import Adoption
from service.interactions.attaching import Attaching
from service.interactions.create import Creator
from service.interactions.follow import Follower
from service.interactions.history import History
from service.interactions.late_usage import LateUsage
from service.interactions.life import Life
from service.interactions.lifecycle import Lifecycle
from service.interactions.listening import Streams
from service.interactions.log import EventLog
from service.interactions.media_restore import Media
from service.interactions.polling import Polling
from service.interactions.preparation import Preparation
from service.interactions.readers import Readers
from service.interactions.recorded import Recorded
from service.interactions.repeats import Repeats
from service.interactions.replay import Replayer
from service.interactions.resolve import Resolver
from service.interactions.run import Pacing
from service.interactions.search import Search
from service.interactions.stream_limits import StreamLimits
from service.interactions.supervisor import Supervision, Supervisor
from service.interactions.taking_over import TakeOver
from service.interactions.upstream_copy import UpstreamCopy
from service.settings import Settings
from service.shared import (
    DEADLINES,
    DEPLOYMENTS,
    DESTINATIONS,
    DUTIES,
    MEDIA_KEEPER,
    SETTINGS,
    TRANSPORT,
    stop_clock,
)
from service.upstream.client import GeminiClient

#: Seconds that readers get at least, to commit what they hold, when the drain time is over.
_READER_GRACE: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Following:
    """What sees interactions to their end."""

    client: GeminiClient
    life: Life
    readers: Readers
    log: EventLog
    take_over: TakeOver
    upstream_copy: UpstreamCopy
    late_usage: LateUsage
    supervisor: Supervisor


async def domain(app: web.Application) -> AsyncIterator[None]:
    """Everything that handlers ask, but for reports."""
    settings, store = app[SETTINGS], app[STORE]
    following = _following(app)
    adoption = _adoption(app, following)
    app[LIFECYCLE] = _lifecycle(app, following, adoption)
    creator = app[CREATOR] = _creator(app, following)
    readers = following.readers
    app[REGISTRY].register(ServiceFigures(app[REQUESTS], app[ROUTER], store, readers, creator.overdue))
    app[STREAMS] = Streams(store.events, readers, app[LIFECYCLE], Follower(store.events))
    repeats = app[REPEATS] = _repeats(app, readers)
    recorded = app[RECORDED] = Recorded(store, settings.recorded_projects)
    app[REPLAYER] = Replayer(store, creator, app[LIFECYCLE], recorded, app[PRICES].of_figures)
    seconds_since_stop = stop_clock(app)
    if app[DUTIES].follows:
        await _start(following.supervisor, settings)
        app.on_shutdown.append(lambda _: following.supervisor.hand_over())
    yield
    await creator.close(max(0.0, settings.drain_timeout - seconds_since_stop()))
    await recorded.close()
    await readers.close(max(_READER_GRACE, settings.drain_timeout - seconds_since_stop()))
    await following.log.close()
    await repeats.close()
    if app[DUTIES].follows:
        await following.supervisor.close()
    if adoption is not None:
        await adoption.close()


async def _start(supervisor: Supervisor, settings: Settings) -> None:
    try:
        await supervisor.start()
    except ServiceError as error:
        raise DatabaseUnusable(
            f"the database cannot be written ({error.message}); see that no other process holds it locked and "
            "that its disk has room.",
            settings.database_url_source,
        ) from error


def _following(app: web.Application) -> _Following:
    settings, store, deployments, router = app[SETTINGS], app[STORE], app[DEPLOYMENTS], app[ROUTER]
    client = _client(app)
    life = Life(store.held, settings.lease_seconds)
    readers = Readers()
    log = EventLog(store.events, life.id, settings.event_flush_interval)
    take_over = TakeOver(store, app.get(MEDIA_KEEPER), deployments, router)
    upstream_copy = UpstreamCopy(store, client, deployments)
    late_usage = LateUsage(store, client, deployments, app[DEADLINES], router, settings.usage_interval)
    supervision = _supervision(settings, shared=len(deployments.upstreams()) > 1)
    polling = Polling(
        life.id,
        store,
        client,
        deployments,
        Attaching(store, client, log, settings.upstream_settle, app.get(MEDIA_KEEPER), router),
        take_over,
        upstream_copy,
        pacing=supervision.pacing,
        upstream_settle=settings.upstream_settle,
    )
    supervisor = Supervisor(life, store, readers, log, polling, late_usage, app[DEADLINES], supervision)
    return _Following(client, life, readers, log, take_over, upstream_copy, late_usage, supervisor)


def _client(app: web.Application) -> GeminiClient:
    settings = app[SETTINGS]
    return GeminiClient(
        app[TRANSPORT],
        request_timeout=settings.router.timeout or settings.request_timeout,
        stream_timeout=settings.router.stream_timeout or settings.stream_idle_timeout,
        connect_timeout=settings.router.connect_timeout,
        first_byte_timeout=settings.router.first_byte_timeout,
    )


def _supervision(settings: Settings, *, shared: bool) -> Supervision:
    return Supervision(
        claim_interval=settings.claim_interval,
        claim_batch=settings.claim_batch,
        concurrency=settings.supervisor_concurrency,
        poll_rate=settings.poll_rate,
        streams=settings.background_streams,
        pacing=Pacing(settings.poll_interval, settings.poll_interval_max),
        shared=shared,
    )


def _adoption(app: web.Application, following: _Following) -> Adoption | None:
    if not app[SETTINGS].adopt_unknown:
        return None
    search = Search(following.client, app[DEPLOYMENTS])
    return Adoption(app[STORE], search, following.readers, app.get(MEDIA_KEEPER))


def _lifecycle(app: web.Application, following: _Following, adoption: Adoption | None) -> Lifecycle:
    return Lifecycle(
        app[STORE],
        app[DEPLOYMENTS],
        following.client,
        following.readers,
        Resolver(app[STORE], following.readers, adoption),
        following.supervisor,
        following.take_over,
        following.late_usage,
        following.upstream_copy,
    )


def _creator(app: web.Application, following: _Following) -> Creator:
    settings, store, deployments, router = app[SETTINGS], app[STORE], app[DEPLOYMENTS], app[ROUTER]
    media = Media(store, deployments, settings.max_rebuild_bytes)
    history = History(store, following.client, media, settings.max_rebuild_bytes)
    life = following.life
    return Creator(
        store,
        following.client,
        Preparation(store, router, app[LIFECYCLE], history, settings.history, life.id),
        following.readers,
        gate=router.gate,
        events=following.log,
        life=life,
        following=following.supervisor,
        upstream_settle=settings.upstream_settle,
        stream_limits=StreamLimits(deployments, settings.router.stream_total_timeout),
        take_over=following.take_over,
        upstream_copy=following.upstream_copy,
        media=app.get(MEDIA_KEEPER),
        destinations=app[DESTINATIONS],
    )


def _repeats(app: web.Application, readers: Readers) -> Repeats:
    settings = app[SETTINGS]
    return Repeats(
        app[STORE],
        app[CREATOR],
        readers,
        app[STREAMS],
        app[LIFECYCLE],
        gate=app[ROUTER].gate,
        retention=settings.idempotency_retention,
        patience=settings.router.timeout or settings.request_timeout,
    )
