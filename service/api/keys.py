"""Shared objects of the application, by key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from service.api.auth import Authenticator
from service.api.request_figures import Requests
from service.audit.details import Details
from service.audit.export import Export
from service.audit.importing import Importer
from service.audit.listing import Listing
from service.audit.long_exports import LongExports
from service.audit.prices import Prices
from service.audit.reconcile import Reconciliation
from service.audit.usage import UsageReports
from service.interactions.create import Creator
from service.interactions.lifecycle import Lifecycle
from service.interactions.listening import Streams
from service.interactions.recorded import Recorded
from service.interactions.repeats import Repeats
from service.interactions.replay import Replayer
from service.interactions.retention import Retention
from service.store.reports import Reports
from service.store.store import Store
from service.upstream.routing.router import Router
from service.webhooks.signing import Signing

AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)
CREATOR: Final = web.AppKey("creator", Creator)
#: Seconds of silence after which a comment is sent on a stream.
KEEP_ALIVE: Final = web.AppKey("keep_alive", float)
LIFECYCLE: Final = web.AppKey("lifecycle", Lifecycle)
EXPORT: Final = web.AppKey("export", Export)
EXPORT_STALL: Final = web.AppKey("export_stall", float)
LONG_EXPORTS: Final = web.AppKey("long_exports", LongExports)
IMPORT: Final = web.AppKey("import", Importer)
#: The place of the one import whose body may be larger than others.
LARGE_IMPORT: Final = web.AppKey("large_import", asyncio.Semaphore)
RECORDED: Final = web.AppKey("recorded", Recorded)
REPLAYER: Final = web.AppKey("replayer", Replayer)
RETENTION: Final = web.AppKey("retention", Retention)
STREAMS: Final = web.AppKey("streams", Streams)
REPEATS: Final = web.AppKey("repeats", Repeats)
REQUESTS: Final = web.AppKey("requests", Requests)
ROUTER: Final = web.AppKey("router", Router)
STORE: Final = web.AppKey("store", Store)
REPORTS: Final = web.AppKey[Reports]("reports", Reports)
DETAILS: Final = web.AppKey("details", Details)
PRICES: Final = web.AppKey("prices", Prices)
LISTING: Final = web.AppKey("listing", Listing)
USAGE: Final = web.AppKey("usage", UsageReports)
RECONCILIATION: Final = web.AppKey("reconciliation", Reconciliation)
SIGNING: Final = web.AppKey("signing", Signing)
#: What every answer carries besides its own headers.
COMMON_HEADERS: Final = web.AppKey[Mapping[str, str]]("common_headers", Mapping)
