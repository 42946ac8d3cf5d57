"""The resources of the process, one ``cleanup_ctx`` each: what starts them, and what ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from service import __version__
from service.api.keys import (
    DETAILS,
    EXPORT,
    EXPORT_STALL,
    IMPORT,
    LISTING,
    LONG_EXPORTS,
    PRICES,
    RECONCILIATION,
    REPORTS,
    RETENTION,
    ROUTER,
    SIGNING,
    STORE,
    USAGE,
)
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
from service.domain import domain
from service.errors import ConfigurationError, ServiceError, database_from
from service.interactions.deadlines import Deadlines
from service.interactions.media import MediaKeeper
from service.interactions.retention import Retention
from service.interactions.sharing import Sharing
from service.settings import Settings
from service.shared import (
    BACKEND,
    CODEC,
    DEADLINES,
    DEPLOYMENTS,
    DESTINATIONS,
    DUTIES,
    INDEXER,
    MEDIA_KEEPER,
    SETTINGS,
    TRANSPORT,
    stop_clock,
)
from service.store import migrate
from service.store.codec import Codec
from service.store.engine import open_backend, open_reports
from service.store.records import now
from service.store.store import Store
from service.store.writer import Writer
from service.tasks import stop
from service.upstream.deployments import Deployments
from service.upstream.files import Files
from service.upstream.routing.router import Router
from service.upstream.transport import Transport
from service.webhooks.deliveries import Deliveries, Patience
from service.webhooks.destinations import Destinations
from service.webhooks.sender import Sender
from service.webhooks.signing import Signing

logger = logging.getLogger(__name__)


_USER_AGENT: Final = f"interactions-service/{__version__}"
#: How often the partitions of the coming days are looked after.
_PARTITIONS_SECONDS: Final = 6 * 3600.0
#: How often deletes that were cut short are ended.
_SWEEP_SECONDS: Final = 3600.0


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
    prices = app[PRICES] = Prices.of(app[SETTINGS], for_all=app[DUTIES].prices)
    late_figures = LateFigures(app[CODEC], prices)
    app[LISTING] = Listing(reports, late_figures, lambda: app[STORE].statistics.entries)
    app[EXPORT] = Export(reports, app[CODEC], late_figures)
    app[EXPORT_STALL] = app[SETTINGS].export_stall_timeout
    app[LONG_EXPORTS] = LongExports(app[SETTINGS].database_url, lambda: app[STORE].statistics.entries)
    app[IMPORT] = Importer(app[STORE], reports)
    app[DETAILS] = Details(reports, app[STORE], app[CODEC], late_figures)
    app[USAGE] = UsageReports(reports, app[CODEC], prices)
    indexer = app[INDEXER] = Indexer(
        app[BACKEND], reports, app[CODEC], prices, idle=app[SETTINGS].index_interval
    )
    if app[DUTIES].derives:
        indexer.start()
    yield
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
    seconds_since_stop = stop_clock(app)
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
    domain,
)
