"""What every handler shares: errors in Google's shape, the headers of an answer. One wrapper instead of middlewares,
which cost a create as much as its storing does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import orjson
from aiohttp import web

from service.api.keys import COMMON_HEADERS
from service.api.request_figures import Requests
from service.api.whole_answer import WholeAnswer
from service.errors import ApiError, InvalidRequest, PayloadTooLarge, ServiceError
from service.interactions.calls import HistoryUsed, Served
from service.settings.deployments import EMULATED
from service.wire import ids

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: An upstream id that is longer or stranger than ids are is no header value.
_LONGEST_ID: Final = 512
_LONGEST_SHOWN: Final = 100
_PLAIN: Final = re.compile(r"[!-~]+")
JSON: Final = "application/json; charset=utf-8"
#: What marks the answers of the emulator.
MADE_UP: Final = MappingProxyType({"x-upstream": "emulator"})
#: How a request body may be encoded; the empty name is none.
_ENCODINGS: Final = frozenset({"", "identity", "gzip", "deflate"})


def endpoint(handler: Handler, figures: Requests) -> Handler:
    """Turn every error of a handler into an answer in Google's shape (contract 7.1), and count what was answered."""
    operation = handler.__name__.strip("_")

    async def guarded(request: web.Request) -> web.StreamResponse:
        began = perf_counter()
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ServiceError as error:
            response = error_response(request, error)
        except web.HTTPRequestEntityTooLarge:
            response = error_response(request, too_large(request))
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            logger.exception("a request failed in a way that was not foreseen")
            response = error_response(request, ApiError())
        # The first question is the cheap one: aiohttp's responses are of an abstract base class.
        is_whole = type(response) is WholeAnswer or isinstance(response, web.Response)
        figures.note(operation if is_whole else f"{operation} stream", response.status, began)
        return response

    return guarded


def answer(
    request: web.Request,
    body: bytes,
    *,
    status: int = 200,
    interaction_id: str | None = None,
    upstream_id: str | None = None,
    history: HistoryUsed | None = None,
    served: Served | None = None,
    replayed: bool = False,
    deployment: str | None = None,
) -> web.Response:
    """A JSON answer with the headers every answer carries."""
    headers = response_headers(
        request, interaction_id, upstream_id, history, served, replayed=replayed, deployment=deployment
    )
    headers["Content-Type"] = JSON
    return WholeAnswer(status=status, body=body, headers=headers)


def response_headers(
    request: web.Request,
    interaction_id: str | None,
    upstream_id: str | None,
    history: HistoryUsed | None = None,
    served: Served | None = None,
    *,
    replayed: bool = False,
    deployment: str | None = None,
) -> dict[str, str]:
    """``x-request-id`` always, the ids of the interaction where there is one; of a create, its history and its way.

    ``replayed`` says that this is what an earlier request with the same idempotency key has made; ``deployment`` is
    where what is read back was made, whose answers are marked as made up if that was the emulator.
    """
    common = request.app[COMMON_HEADERS]
    headers = {"x-request-id": interaction_id or ids.to_text(ids.mint()), **common}
    if interaction_id is not None:
        headers["x-interaction-id"] = interaction_id
    if upstream_id is not None and len(upstream_id) <= _LONGEST_ID and _PLAIN.fullmatch(upstream_id):
        headers["x-upstream-interaction-id"] = upstream_id
    if history is not None:
        headers["x-interactions-history"] = history.source
        headers["x-interactions-history-links"] = str(history.links)
    if replayed:
        headers["idempotency-replayed"] = "true"
    if served is not None:
        deployment = served.deployment
        headers["x-deployment"] = header_value(served.deployment)
        headers["x-attempts"] = str(served.attempts)
    if deployment is not None and deployment.startswith(EMULATED):
        headers.update(MADE_UP)
    return headers


@lru_cache(maxsize=1024)
def header_value(text: str) -> str:
    """A name from the configuration as a header can carry it."""
    return text if _PLAIN.fullmatch(text) else quote(text)


def error_response(request: web.Request, error: ServiceError) -> web.Response:
    """An error in Google's shape; ``Retry-After`` travels in seconds and in milliseconds, rounded up."""
    served = None if error.deployment is None else Served(error.deployment, error.attempts or 0)
    response = answer(
        request,
        orjson.dumps(error.body()),
        status=error.status,
        interaction_id=error.interaction_id,
        served=served,
        replayed=error.replayed,
    )
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(0, -int(-error.retry_after // 1)))
        response.headers["retry-after-ms"] = str(max(0, -int(-error.retry_after * 1_000 // 1)))
    return response


def too_large(request: web.Request) -> PayloadTooLarge:
    """The refusal of a body beyond the limit, which it names."""
    return PayloadTooLarge(
        f"The request body is larger than {request._client_max_size} bytes; send less inline data, "
        "or raise general_settings.max_body_bytes."
    )


async def read_body(request: web.Request) -> bytes:
    """The whole body; a declared length beyond the limit is refused before a byte of it is read."""
    if "Content-Encoding" in request.headers:
        _check_encoding(request)
    limit = request._client_max_size
    content = request.content
    try:
        if not content.is_eof():
            if limit and (request.content_length or 0) > limit:
                raise too_large(request)
            return await request.read()
        # A small body is here with its head; reading it takes no turn of the event loop.
        body = content.read_nowait()
    except (ValueError, web.RequestPayloadError) as error:
        raise InvalidRequest("The request body cannot be read: it is cut off or badly encoded.") from error
    except OSError as error:
        # Nobody is there to be told; the refusal is for the figures.
        logger.info("a client left in the middle of its request's body")
        raise InvalidRequest("The request body was cut off: the connection is lost.") from error
    if limit and len(body) > limit:
        raise too_large(request)
    return body


def _check_encoding(request: web.Request) -> None:
    # More than one line is one list, of which only the last would be undone.
    encoding = ", ".join(request.headers.getall("Content-Encoding"))
    if encoding.strip().lower() not in _ENCODINGS:
        raise InvalidRequest(
            f"The header 'Content-Encoding' is {encoding[:_LONGEST_SHOWN]!r}, which is not understood here; "
            "send the body plain, or as gzip or deflate."
        )


def check_parameters(request: web.Request, *known: str) -> None:
    """Refuse parameters that mean nothing here; the service's key may be one (contract 1.3)."""
    for name in request.query:
        if name not in (*known, "key"):
            remedy = f"it can be {' or '.join(known)}" if known else "there are none here"
            raise InvalidRequest(f"Unknown parameter {name[:100]!r}; {remedy}.")
