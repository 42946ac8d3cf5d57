"""Export and import over HTTP: ``GET /api/export`` and ``POST /api/import``."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from service.api.audit import query_filters
from service.api.endpoint import answer, read_body, response_headers
from service.api.keys import AUTHENTICATOR, EXPORT, IMPORT
from service.audit.encoding import encoder_for
from service.audit.lines import Whole
from service.errors import ServiceError
from service.wire import codec

logger = logging.getLogger(__name__)

#: Seconds after which a client that reads nothing is given up.
_STALLED: Final = 300.0


async def export(request: web.Request) -> web.StreamResponse:
    """Everything that the filters select, as ``format`` (jsonl, csv, parquet), behind the interaction ``cursor``.

    An export that cannot go on ends without the end of its body, so that nobody takes it for whole.
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    filters, rest = query_filters(request, "format", "cursor")
    encoder = encoder_for(rest.get("format", "jsonl"))
    parts = request.app[EXPORT].parts(principal.project_id, filters, rest.get("cursor"))
    nothing: list[Whole] = []
    first = await anext(parts, nothing)
    response = web.StreamResponse(headers=response_headers(request, None, None))
    response.content_type = encoder.content_type.partition(";")[0]
    if "charset" in encoder.content_type:
        response.charset = "utf-8"
    response.headers["Cache-Control"] = "no-store"
    await response.prepare(request)
    try:
        await _write(response, encoder.begin() + await asyncio.to_thread(encoder.add, first))
        async for part in parts:
            await _write(response, await asyncio.to_thread(encoder.add, part))
        await _write(response, encoder.end())
        await response.write_eof()
    except ServiceError as error:
        logger.warning("an export was broken off: %s", error)
        _break_off(request)
    except (ConnectionError, TimeoutError):
        _break_off(request)
    except Exception:
        logger.exception("an export failed in a way that was not foreseen")
        _break_off(request)
    return response


async def import_lines(request: web.Request) -> web.StreamResponse:
    """Take in lines of an export; what is there already stays as it is, so lines may be sent any number of times."""
    principal = request.app[AUTHENTICATOR].principal(request)
    told = await request.app[IMPORT].lines(principal, await read_body(request))
    return answer(request, codec.dumps({"imported": told.imported, "known": told.known}))


async def _write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        async with asyncio.timeout(_STALLED):
            await response.write(data)


def _break_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
