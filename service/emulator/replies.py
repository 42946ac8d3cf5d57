"""Errors in both of upstream's shapes, and answers that are not fit to be read (contract 7)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from aiohttp import web

from service.emulator.directives import Directive
from service.errors import ServiceError, UpstreamError

JSON = "application/json; charset=UTF-8"
_NAMES = {
    400: ("INVALID_ARGUMENT", "invalid_request"),
    401: ("UNAUTHENTICATED", "authentication"),
    402: ("FAILED_PRECONDITION", "payment_required"),
    403: ("PERMISSION_DENIED", "permission_denied"),
    404: ("NOT_FOUND", "not_found"),
    409: ("ABORTED", "aborted"),
    410: ("NOT_FOUND", "gone"),
    429: ("RESOURCE_EXHAUSTED", "rate_limit_exceeded"),
    499: ("CANCELLED", "cancelled"),
    500: ("INTERNAL", "api_error"),
    501: ("UNIMPLEMENTED", "unimplemented"),
    503: ("UNAVAILABLE", "service_unavailable"),
    504: ("DEADLINE_EXCEEDED", "deadline_exceeded"),
}
_DETAIL = "type.googleapis.com/google.rpc."


class FrontEndError(ServiceError):
    """An error of the front end, in the classic shape wrapped in an array (contract 7.3)."""

    def __init__(self, status: int, message: str, details: list[dict[str, object]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.details = details or []

    def classic(self) -> list[dict[str, object]]:
        """The body."""
        name = names_of(self.status)[0]
        error: dict[str, object] = {"code": self.status, "message": self.message, "status": name}
        if self.details:
            error["details"] = self.details
        return [{"error": error}]


def names_of(status: int) -> tuple[str, str]:
    """The classic status name and the code that go with an HTTP status (contract 7.2)."""
    return _NAMES.get(status) or ("UNKNOWN", _phrase(status).lower().replace(" ", "_"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def unauthenticated() -> FrontEndError:
    """No key, or one that is not accepted."""
    return FrontEndError(
        401,
        "API key not valid. Please pass a valid API key.",
        [{"@type": _DETAIL + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    )


def json_reply(body: bytes, status: int = 200) -> web.Response:
    """A JSON answer, with the content type as upstream writes it."""
    return web.Response(body=body, status=status, headers={"Content-Type": JSON})


def refusal(error: ServiceError) -> web.Response:
    """The answer for an error; JSON on every path, also for streams."""
    body = error.classic() if isinstance(error, FrontEndError) else error.body()
    reply = json_reply(orjson.dumps(body), error.status)
    if error.retry_after is not None:
        reply.headers["Retry-After"] = f"{error.retry_after:g}"
    return reply


def wished_refusal(wish: Directive) -> web.Response:
    """The answer that a `status` directive describes."""
    status = wish.integer("code")
    message = wish.text("message") or _phrase(status)
    if wish.text("shape") == "classic":
        reply = refusal(FrontEndError(status, message, _quota_details(wish) if status == 429 else None))
    else:
        reply = refusal(UpstreamError(status, wish.text("error") or names_of(status)[1], message))
    if wish.text("retry_after"):
        reply.headers["Retry-After"] = wish.text("retry_after")
    return reply


def html_reply(status: int) -> web.Response:
    """The page that a load balancer puts in the way."""
    page = (
        f"<!DOCTYPE html><html><title>Error {status}</title><p>The server encountered an error.</p></html>\n"
    )
    return web.Response(text=page, status=status, content_type="text/html")


def _quota_details(wish: Directive) -> list[dict[str, object]]:
    violation = {"quotaMetric": "generativelanguage.googleapis.com/emulated_requests", "quotaId": "Emulated"}
    details: list[dict[str, object]] = [{"@type": _DETAIL + "QuotaFailure", "violations": [violation]}]
    delay = wish.text("retry_delay") or wish.text("retry_after")
    if delay:
        details.append({"@type": _DETAIL + "RetryInfo", "retryDelay": f"{delay.removesuffix('s')}s"})
    return details
