"""The resources of the process, one ``cleanup_ctx`` each: what starts them, and what ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service import __version__
from service.api.keys import (
    CREATOR,
    DETAILS,
    EXPORT,
    EXPORT_STALL,
    IMPORT,
    LIFECYCLE,
    LISTING,
    LONG_EXPORTS,
    PRICES,
    RECONCILIATION,
    RECORDED,
    REPEATS,
    REPLAYER,
    REPORTS,
    REQUESTS,
    RETENTION,
    ROUTER,
    SIGNING,
    STORE,
    STREAMS,
    USAGE,
)
from service.api.metrics import REGISTRY, ServiceFigures
from service.audit.details import Details
from service.audit.export import Export
from service.audit.importing import Importer
from service.audit.indexer import Indexer
from service.audit.late_figures import LateFigures
from service.audit.listing import Listing
from service.audit.long_exports import LongExports
from service.audit.prices import Prices
from service.audit.reconcile import Reconciliation
from service.audit.usage import UsageReports
from service.errors import ConfigurationError, DatabaseUnusable, ServiceError, database_from
from service.interactions.adoption import Adoption
from service.interactions.attaching import Attaching
from service.interactions.create import Creator
from service.interactions.deadlines import Deadlines
from service.interactions.follow import Follower
from service.interactions.history import History
from service.interactions.late_usage import LateUsage
from service.interactions.life import Life
from service.interactions.lifecycle import Lifecycle
from service.interactions.listening import Streams
from service.interactions.log import EventLog
from service.interactions.media import MediaKeeper
from service.interactions.media_restore import Media
from service.interactions.polling import Polling
from service.interactions.preparation import Preparation
from service.interactions.readers import Readers
from service.interactions.recorded import Recorded
from service.interactions.repeats import Repeats
from service.interactions.replay import Replayer
from service.interactions.resolve import Resolver
from service.interactions.retention import Retention
from service.interactions.run import Pacing
from service.interactions.search import Search
from service.interactions.sharing import Sharing
from service.interactions.stream_limits import StreamLimits
from service.interactions.supervisor import Supervision, Supervisor
from service.interactions.taking_over import TakeOver
from service.interactions.upstream_copy import UpstreamCopy
from service.settings import Settings
from service.store import migrate
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.engine import open_backend, open_reports
from service.store.records import now
from service.store.store import Store
from service.store.writer import Writer
from service.tasks import stop
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployments
from service.upstream.files import Files
from service.upstream.routing.router import Router
from service.upstream.transport import Transport
from service.webhooks.deliveries import Deliveries, Patience
from service.webhooks.destinations import Destinations
from service.webhooks.sender import Sender
from service.webhooks.signing import Signing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duties:
    """What a process does of its own accord, beside answering."""

    #: Brings the database to this version's schema; otherwise one that stands elsewhere is refused.
    migrates: bool = True
    #: Sees interactions to their end: its own, and what processes that died have left.
    follows: bool = True
    #: Derives what lists, searches and reports are made from.
    derives: bool = True
    #: Ends when all that there is to derive from has been.
    leaves_nothing: bool = False
    #: Applies rules of retention, delivers webhooks, makes partitions and ends deletes that were cut short.
    keeps: bool = True


SERVING: Final = Duties()
SETTINGS: Final = web.AppKey("settings", Settings)
TRANSPORT: Final = web.AppKey("transport", Transport)
DEPLOYMENTS: Final = web.AppKey("deployments", Deployments)
DEADLINES: Final = web.AppKey("deadlines", Deadlines)
BACKEND: Final = web.AppKey[Backend]("backend", Backend)
CODEC: Final = web.AppKey("codec", Codec)
DUTIES: Final = web.AppKey("duties", Duties)
MEDIA_KEEPER: Final = web.AppKey("media_keeper", MediaKeeper)
DESTINATIONS: Final = web.AppKey("destinations", Destinations)

_USER_AGENT: Final = f"interactions-service/{__version__}"
#: How often the partitions of the coming days are looked after.
_PARTITIONS_SECONDS: Final = 6 * 3600.0
#: How often deletes that were cut short are ended.
_SWEEP_SECONDS: Final = 3600.0
#: Seconds that readers get at least, to commit what they hold, when the drain time is over.
_READER_GRACE: Final = 2.0


async def _store(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    codec = app[CODEC] = Codec()
    with database_from(settings.database_url_source):
        await (migrate.upgrade if app[DUTIES].migrates else migrate.check)(settings.database_url)
        backend = app[BACKEND] = open_backend(
            settings.database_url, codec, pool_limit=settings.database_connection_pool_limit
        )
        await backend.start()
    writer = Writer(backend, limit=settings.writer_queue_limit)
    app[STORE] = Store(
        backend,
        writer,
        codec,
        usage_interval=settings.usage_interval,
        outcome_patience=settings.outcome_patience,
    )
    app[RECONCILIATION] = Reconciliation(app[STORE].fetch, codec)
    yield
    await writer.close()
    await backend.close()


async def _reports(app: web.Application) -> AsyncIterator[None]:
    with database_from(app[SETTINGS].database_url_source):
        reports = app[REPORTS] = open_reports(app[SETTINGS].database_url)
        await reports.start()
    prices = app[PRICES] = Prices.of(app[SETTINGS])
    late_figures = LateFigures(app[CODEC], prices)
    app[LISTING] = Listing(reports, late_figures, lambda: app[STORE].statistics.entries)
    app[EXPORT] = Export(reports, app[CODEC], late_figures)
    app[EXPORT_STALL] = app[SETTINGS].export_stall_timeout
    app[LONG_EXPORTS] = LongExports(app[SETTINGS].database_url, lambda: app[STORE].statistics.entries)
    app[IMPORT] = Importer(app[STORE], reports)
    app[DETAILS] = Details(reports, app[STORE], app[CODEC], late_figures)
    app[USAGE] = UsageReports(reports, app[CODEC], prices)
    indexer = Indexer(app[BACKEND], reports, app[CODEC], prices, idle=app[SETTINGS].index_interval)
    if app[DUTIES].derives:
        indexer.start()
    yield
    if app[DUTIES].leaves_nothing:
        await indexer.finish()
    await indexer.close()
    await reports.close()


async def _maintenance(app: web.Application) -> AsyncIterator[None]:
    if not app[DUTIES].keeps:
        yield
        return
    tasks = (
        asyncio.create_task(_keep_partitions(app[SETTINGS]), name="partitions"),
        asyncio.create_task(_keep_sweeping(app[STORE]), name="sweep"),
    )
    yield
    await stop(*tasks)


async def _retention(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    retention = app[RETENTION] = Retention(app[STORE], settings.retention_policies, settings.database_url)
    if app[DUTIES].keeps:
        retention.start(settings.retention_interval)
    yield
    await retention.close()


async def _keep_partitions(settings: Settings) -> None:
    while True:
        await asyncio.sleep(_PARTITIONS_SECONDS)
        try:
            with database_from(settings.database_url_source):
                await migrate.maintain(settings.database_url)
        except ConfigurationError as error:
            logger.error("partitions could not be made ahead of time: %s", error)


async def _keep_sweeping(store: Store) -> None:
    while True:
        try:
            await store.sweep(now())
        except ServiceError as error:
            logger.warning("deleted interactions are hidden, and will be erased later: %s", error)
        await asyncio.sleep(_SWEEP_SECONDS)


async def _transport(app: web.Application) -> AsyncIterator[None]:
    app[TRANSPORT] = Transport()
    deployments = app[DEPLOYMENTS] = Deployments(app[SETTINGS], _USER_AGENT)
    app[DEADLINES] = Deadlines(deployments, app[SETTINGS].background_timeout)
    yield
    await app[TRANSPORT].close()


async def _routing(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    router = app[ROUTER] = Router(settings, app[DEPLOYMENTS])
    sharing = Sharing(app[STORE], router, settings.router.shared_state_interval)
    if app[DUTIES].follows:
        sharing.start()
    yield
    await sharing.close()


async def _media(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    if not settings.keep_media:
        yield
        return
    files = Files(app[TRANSPORT], settings.max_media_bytes)
    keeper = app[MEDIA_KEEPER] = MediaKeeper(app[STORE], app[DEPLOYMENTS], app[DEADLINES], files)
    if app[DUTIES].follows:
        keeper.start()
    seconds_since_stop = _stop_clock(app)
    yield
    await keeper.close(max(0.0, settings.drain_timeout - seconds_since_stop()))


async def _webhooks(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[DESTINATIONS] = Destinations(settings.webhook_allow_private)
    sender = Sender(app[DESTINATIONS], timeout=settings.webhook_timeout, user_agent=_USER_AGENT)
    patience = Patience(
        timeout=settings.webhook_timeout,
        lease=settings.lease_seconds,
        first_pause=settings.webhook_retry_after,
        retry_for=settings.webhook_retry_for,
    )
    configured = tuple(secret.reveal() for secret in settings.webhook_secret)
    app[SIGNING] = Signing(app[STORE].secrets, configured)
    deliveries = Deliveries(
        app[STORE].webhooks,
        app[SIGNING],
        sender,
        patience,
        concurrency=settings.webhook_concurrency,
    )
    if app[DUTIES].keeps:
        deliveries.start()
    yield
    await deliveries.close()
    await sender.close()


async def _domain(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    deployments, keeper = app[DEPLOYMENTS], app.get(MEDIA_KEEPER)
    client = GeminiClient(
        app[TRANSPORT],
        request_timeout=settings.router.timeout or settings.request_timeout,
        stream_timeout=settings.router.stream_timeout or settings.stream_idle_timeout,
        connect_timeout=settings.router.connect_timeout,
        first_byte_timeout=settings.router.first_byte_timeout,
    )
    readers = Readers()
    store = app[STORE]
    life = Life(store.held, settings.lease_seconds)
    log = EventLog(store.events, life.id, settings.event_flush_interval)
    take_over = TakeOver(store, keeper, app[ROUTER])
    upstream_copy = UpstreamCopy(store, client, deployments)
    deadlines = app[DEADLINES]
    late_usage = LateUsage(store, client, deployments, deadlines, app[ROUTER], settings.usage_interval)
    pacing = Pacing(settings.poll_interval, settings.poll_interval_max)
    polling = Polling(
        life.id,
        store,
        client,
        deployments,
        Attaching(store, client, log, settings.upstream_settle, keeper, app[ROUTER]),
        take_over,
        upstream_copy,
        pacing=pacing,
        upstream_settle=settings.upstream_settle,
    )
    supervision = Supervision(
        claim_interval=settings.claim_interval,
        claim_batch=settings.claim_batch,
        concurrency=settings.supervisor_concurrency,
        poll_rate=settings.poll_rate,
        streams=settings.background_streams,
        pacing=pacing,
        shared=len(deployments.upstreams()) > 1,
    )
    supervisor = Supervisor(life, store, readers, log, polling, late_usage, deadlines, supervision)
    adoption = None
    if settings.adopt_unknown:
        adoption = Adoption(app[STORE], Search(client, deployments), readers, keeper)
    resolver = Resolver(app[STORE], readers, adoption)
    app[LIFECYCLE] = Lifecycle(
        store, deployments, client, readers, resolver, supervisor, take_over, late_usage, upstream_copy
    )
    media = Media(app[STORE], deployments, settings.max_rebuild_bytes)
    history = History(app[STORE], client, media, settings.max_rebuild_bytes)
    preparation = Preparation(store, app[ROUTER], app[LIFECYCLE], history, settings.history, life.id)
    app[CREATOR] = Creator(
        app[STORE],
        client,
        preparation,
        readers,
        gate=app[ROUTER].gate,
        events=log,
        life=life,
        following=supervisor,
        upstream_settle=settings.upstream_settle,
        stream_limits=StreamLimits(deployments, settings.router.stream_total_timeout),
        take_over=take_over,
        upstream_copy=upstream_copy,
        media=keeper,
        destinations=app[DESTINATIONS],
    )
    app[REGISTRY].register(ServiceFigures(app[REQUESTS], app[ROUTER], store, readers, app[CREATOR].overdue))
    follower = Follower(app[STORE].events)
    app[STREAMS] = Streams(app[STORE].events, readers, app[LIFECYCLE], follower)
    repeats = app[REPEATS] = Repeats(
        app[STORE],
        app[CREATOR],
        readers,
        app[STREAMS],
        app[LIFECYCLE],
        gate=app[ROUTER].gate,
        retention=settings.idempotency_retention,
        patience=settings.router.timeout or settings.request_timeout,
    )
    recorded = app[RECORDED] = Recorded(app[STORE], settings.recorded_projects)
    app[REPLAYER] = Replayer(app[STORE], app[CREATOR], app[LIFECYCLE], recorded, app[PRICES].of_figures)
    seconds_since_stop = _stop_clock(app)
    if app[DUTIES].follows:
        try:
            await supervisor.start()
        except ServiceError as error:
            raise DatabaseUnusable(
                f"the database cannot be written ({error.message}); see that no other process holds it locked and "
                "that its disk has room.",
                settings.database_url_source,
            ) from error
        app.on_shutdown.append(lambda _: supervisor.hand_over())
    yield
    await app[CREATOR].close(max(0.0, settings.drain_timeout - seconds_since_stop()))
    await recorded.close()
    await readers.close(max(_READER_GRACE, settings.drain_timeout - seconds_since_stop()))
    await log.close()
    await repeats.close()
    if app[DUTIES].follows:
        await supervisor.close()
    if adoption is not None:
        await adoption.close()


def _stop_clock(app: web.Application) -> Callable[[], float]:
    """Tells the seconds since the process was told to stop."""
    stopping_at: list[float] = []

    async def note_stop(_: web.Application) -> None:
        stopping_at.append(asyncio.get_running_loop().time())

    app.on_shutdown.append(note_stop)
    return lambda: asyncio.get_running_loop().time() - stopping_at[0] if stopping_at else 0.0


#: In the order in which they start; they stop in the reverse one: readers end before the connections to upstream close,
#: and the writer commits what is queued before the database does.
IN_ORDER: Final = (
    _store,
    _reports,
    _maintenance,
    _retention,
    _transport,
    _routing,
    _media,
    _webhooks,
    _domain,
)
