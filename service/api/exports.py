"""Export and import over HTTP: ``GET /api/export`` and ``POST /api/import``."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Final

from aiohttp import web

from service.api import unchunked
from service.api.audit import query_filters
from service.api.endpoint import answer, check_parameters, read_body, response_headers
from service.api.import_room import room_for
from service.api.keys import AUTHENTICATOR, EXPORT, EXPORT_STALL, IMPORT, LONG_EXPORTS, PRICES
from service.audit.encoding import form_of
from service.audit.errand import Errand
from service.audit.lines import Whole
from service.audit.portions import Encoder
from service.errors import InvalidRequest, ServiceError
from service.wire import codec

logger = logging.getLogger(__name__)

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


async def export(request: web.Request) -> web.StreamResponse:
    """Everything that the filters select, as ``format`` (jsonl, csv, parquet), behind the interaction ``cursor``.

    With ``media=false`` without the bytes of kept media. An export that cannot go on, or whose client reads nothing for
    too long, ends without the end of its body, so that nobody takes it for whole.
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    chosen, rest = query_filters(request, "format", "cursor", "media")
    form, after = rest.get("format", "jsonl"), rest.get("cursor")
    kind = form_of(form)
    with_media = form == "jsonl" and _flag("media", rest.get("media", "true"))
    if await request.app[EXPORT].is_short(principal.project_id, chosen, after):
        parts = request.app[EXPORT].parts(principal.project_id, chosen, after, with_media=with_media)
        pieces = _encoded(kind(after), parts)
    else:
        filters = tuple((name, value) for name, value in request.query.items() if name not in (*rest, "key"))
        pieces = request.app[LONG_EXPORTS].pieces(
            Errand(
                principal.project_id,
                filters,
                chosen.since,
                chosen.until,
                after,
                form,
                with_media,
                request.app[PRICES].told(),
            )
        )
    async with aclosing(pieces):
        first = await anext(pieces, b"")
        response = web.StreamResponse(headers=response_headers(request, None, None))
        response.content_type = kind.content_type.partition(";")[0]
        if "charset" in kind.content_type:
            response.charset = "utf-8"
        response.headers["Cache-Control"] = "no-store"
        await unchunked.begin(request, response)
        await _send(request, response, first, pieces)
    return response


async def _encoded(encoder: Encoder, parts: AsyncGenerator[list[Whole], None]) -> AsyncGenerator[bytes, None]:
    """The bytes of a short export."""
    async with aclosing(parts):
        waiting = encoder.begin()
        async for part in parts:
            yield waiting + await asyncio.to_thread(_added, encoder, part)
            waiting = b""
        yield waiting + encoder.end()


def _added(encoder: Encoder, part: list[Whole]) -> bytes:
    return bytes(encoder.add(encoder.portion(part))) if part else b""


async def _send(
    request: web.Request, response: web.StreamResponse, first: bytes, pieces: AsyncGenerator[bytes, None]
) -> None:
    patience = request.app[EXPORT_STALL]
    try:
        await _write(response, first, patience)
        async for piece in pieces:
            await _write(response, piece, patience)
        await response.write_eof()
        unchunked.end(request)
    except ServiceError as error:
        logger.warning("an export was broken off: %s", error)
        _break_off(request)
    except (ConnectionError, TimeoutError):
        _break_off(request)
    except Exception:
        logger.exception("an export failed in a way that was not foreseen")
        _break_off(request)


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidRequest(
            f"The value is invalid for '{name}'. Expected true or false, got {value[:50]!r}."
        )
    return value.lower() == "true"


async def import_lines(request: web.Request) -> web.StreamResponse:
    """Take in lines of an export, however often: of what is there, only open imports change, to their ends.

    ``first_line`` is the number of the first one in its file: errors name lines by their numbers.
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request, "first_line")
    first = _line_number("first_line", request.query.get("first_line", "1"))
    async with room_for(request) as arriving:
        body = await read_body(request)
        arriving.reschedule(None)
        told = await request.app[IMPORT].lines(principal, body, first)
    return answer(request, codec.dumps(asdict(told)))


def _line_number(name: str, value: str) -> int:
    if _NUMBER.fullmatch(value) is None:
        raise InvalidRequest(
            f"The value is invalid for '{name}'. Expected a whole number from 1, got {value[:50]!r}."
        )
    return int(value)


async def _write(response: web.StreamResponse, data: bytes, patience: float) -> None:
    if data:
        async with asyncio.timeout(patience):
            await response.write(data)


def _break_off(request: web.Request) -> None:
    # To close it would wait until the client has read what it was sent.
    if request.transport is not None:
        request.transport.abort()
