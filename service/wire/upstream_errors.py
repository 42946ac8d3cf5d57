"""Upstream's refusals, read from whatever shape they come in (contract 7).

The HTTP status is always upstream's; code and message are its own where it gave them and derived from the
status where it did not. Nothing is ever concluded about the status from the text of a message.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from service.errors import UpstreamError

_EXCERPT = 200

#: google.rpc.Code names to wire codes (contract 7.2).
_CODE_OF_NAME = {
    "INVALID_ARGUMENT": "invalid_request",
    "UNAUTHENTICATED": "authentication",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "UNAVAILABLE": "service_unavailable",
    "INTERNAL": "api_error",
    "UNKNOWN": "api_error",
    "DATA_LOSS": "api_error",
}
_CODE_OF_STATUS = {
    400: "invalid_request",
    401: "authentication",
    403: "permission_denied",
    409: "aborted",
    413: "payload_too_large",
    416: "out_of_range",
    429: "rate_limit_exceeded",
    499: "cancelled",
    500: "api_error",
    501: "unimplemented",
    504: "deadline_exceeded",
}
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
#: Seconds; who asks for more is not believed.
_LONGEST_DELAY = 86_400.0
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s", re.ASCII)
_REFERENCE = re.compile(r"\b(?:previous[_ ])?interaction(?:_id|\b)|\bv1_[\w-]{8,}", re.IGNORECASE)
_MISSING = re.compile(
    r"not (?:be )?found|(?:does|do|did) ?(?:not|n't) exist|no longer|\bgone\b|expired|deleted|cannot find"
    r"|unable to find|invalid (?:value (?:for|at) )?['\"]?previous[_ ]interaction",
    re.IGNORECASE,
)
_KEY_REFUSED = re.compile(r"API key (?:not valid|expired|not found|was reported as leaked)", re.IGNORECASE)
#: Reasons of google.rpc ErrorReason that are about the key and its project alone.
_KEY_REASONS = frozenset(
    {
        "API_KEY_INVALID",
        "API_KEY_SERVICE_BLOCKED",
        "API_KEY_HTTP_REFERRER_BLOCKED",
        "API_KEY_IP_ADDRESS_BLOCKED",
        "API_KEY_ANDROID_APP_BLOCKED",
        "API_KEY_IOS_APP_BLOCKED",
        "BILLING_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "SERVICE_DISABLED",
    }
)
_RUNNING = re.compile(r"in[ _]progress|still running|not (?:yet )?complete", re.IGNORECASE)
_CATCH_ALL = re.compile(
    r"(?:request contains an invalid argument|requested entity was not found|not found)\.?", re.IGNORECASE
)


def parse(status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
    """The error in an upstream answer whose status is not a success (contract 7.1 and 7.3). Never raises.

    Understands an object or a one-element array, a code that is a string or an integer beside a google.rpc
    status name, ``retry-after-ms``, ``Retry-After`` in seconds or as a date, and ``RetryInfo.retryDelay``.
    """
    named = {name.lower(): value for name, value in headers.items()}
    try:
        document = orjson.loads(body)
    except ValueError:
        return UpstreamError(
            status,
            code_for_status(status),
            _excerpt(status, "non-JSON", body),
            retry_after=_header_delay(named),
        )
    error = _error_member(document)
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        message = _excerpt(status, "JSON", body)
    delay = _header_delay(named)
    if delay is None:
        delay = _detail_delay(error.get("details"))
    return UpstreamError(
        status, _code(error, status), message, retry_after=delay, reason=_detail_reason(error.get("details"))
    )


def said_in(document: Any) -> tuple[str, str] | None:
    """Code and message of an error that came where an answer was expected; None for JSON that has no error."""
    error = _error_member(document)
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        return None
    code = error.get("code")
    number = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 500
    return _code(error, number), message


def code_for_status(status: int) -> str:
    """The wire code for an HTTP status: contract 7.2, else the snake_case of the status text."""
    code = _CODE_OF_STATUS.get(status)
    if code is not None:
        return code
    try:
        return HTTPStatus(status).phrase.lower().replace("-", "_").replace(" ", "_").replace("'", "")
    except ValueError:
        return "invalid_request" if 400 <= status < 500 else "api_error"


def names_missing_reference(error: UpstreamError) -> bool:
    """Whether a create failed because upstream no longer has its ``previous_interaction_id`` (contract 6).

    True only for a 400, 404 or 410 whose message says that an interaction is gone; a model or a file that is
    not found, or an interaction that is still running, is not that.
    """
    return (
        error.status in (400, 404, 410)
        and error.code not in ("model_not_found", "parameter_unknown")
        and _REFERENCE.search(error.message) is not None
        and _MISSING.search(error.message) is not None
        and _RUNNING.search(error.message) is None
    )


def refuses_key(error: UpstreamError) -> bool:
    """Whether upstream has refused the key it was called with, or the account behind that, whatever was asked for.

    That is a 401, a 402, and a 400 or 403 which says so by its reason (google.rpc ErrorReason) or its message.
    """
    if error.status in (401, 402):
        return True
    return error.status in (400, 403) and (
        error.reason in _KEY_REASONS or _KEY_REFUSED.search(error.message) is not None
    )


def is_ambiguous(error: UpstreamError) -> bool:
    """Whether a 400, 404 or 410 may be about a lost reference but does not say what it is about (contract 6).

    The typical one is the bare ``Request contains an invalid argument.``; asking upstream for the reference
    decides.
    """
    return error.status in (400, 404, 410) and _CATCH_ALL.fullmatch(error.message.strip()) is not None


def _error_member(document: Any) -> dict[str, Any]:
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return {}
    error = document.get("error")
    if isinstance(error, str):
        return {"message": document.get("error_description") or error}
    return error if isinstance(error, dict) else {}


def _code(error: dict[str, Any], status: int) -> str:
    for value in (error.get("code"), error.get("status")):
        if isinstance(value, str) and value and not value.isdigit():
            return _CODE_OF_NAME.get(value, value.lower())
    return code_for_status(status)


def _excerpt(status: int, kind: str, body: bytes) -> str:
    # A character is at most four bytes, and a run of blanks shrinks to one.
    text = _CONTROL.sub(" ", body[: 8 * _EXCERPT].decode("utf-8", "replace")).strip()[:_EXCERPT]
    if not text:
        return f"Upstream answered {status} with an empty body."
    expected = "a non-JSON body" if kind == "non-JSON" else "a body that carries no error message"
    return f"Upstream answered {status} with {expected}: {text}"


def _header_delay(headers: Mapping[str, str]) -> float | None:
    delay = _seconds(headers.get("retry-after-ms"), 0.001)
    if delay is None:
        delay = _seconds(headers.get("retry-after"), 1.0)
    if delay is None:
        delay = _until(headers.get("retry-after"), headers.get("date"))
    return delay


def _seconds(text: str | None, unit: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return min(number * unit, _LONGEST_DELAY) if math.isfinite(number) and number >= 0 else None


def _until(text: str | None, now: str | None) -> float | None:
    """Seconds until an HTTP date, by upstream's own clock where it showed it."""
    at = _timestamp(text)
    if at is None:
        return None
    here = _timestamp(now)
    return min(max(0.0, at - (time.time() if here is None else here)), _LONGEST_DELAY)


def _timestamp(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _detail_reason(details: Any) -> str | None:
    for detail in details if isinstance(details, list) else ():
        reason = detail.get("reason") if isinstance(detail, dict) else None
        if isinstance(reason, str):
            return reason
    return None


def _detail_delay(details: Any) -> float | None:
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        match = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
        if match is not None:
            return min(float(match[1]), _LONGEST_DELAY)
    return None
