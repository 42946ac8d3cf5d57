"""Whether a database fits itself, as the service's own reconciliation sees it."""

from __future__ import annotations

import asyncio

from service.audit.reconcile import Reconciliation, Report, Span
from service.store.codec import Codec
from service.store.engine import open_backend
from service.store.records import now

#: What a process that was killed held is taken over only by who has been there for most of a lease itself.
_PATIENCE = 60.0
_HOUR = 3_600


async def reconciled(database_url: str, *, grace: float = 0.0) -> Report:
    """The report on everything that is in a database."""
    codec = Codec()
    backend = open_backend(database_url, codec, pool_limit=1)
    await backend.start()
    try:
        everything = Span(start=0, end=now() + _HOUR * 1_000_000, interval=_HOUR)
        return await Reconciliation(backend.fetch, codec, grace=grace).report(everything)
    finally:
        await backend.close()


async def assert_reconciles(database_url: str) -> Report:
    """Wait until nothing is left behind, which takes the running service a moment; fail if anything else is wrong."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while (report := await reconciled(database_url)).mismatches:
                await asyncio.sleep(0.2)
            return report
    except TimeoutError:
        report = await reconciled(database_url)
    assert not report.mismatches, report.shown()["mismatches"]
    return report
