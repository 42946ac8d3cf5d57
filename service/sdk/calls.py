"""One call as HTTP: what is sent, and what an answer means. Nothing here waits or connects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from service.errors import InvalidRequest
from service.sdk.errors import BadRequest, InvalidAnswer, StatusError, class_for
from service.wire import codec
from service.wire.upstream_errors import parse

PATH: Final = "/v1beta/interactions"
_EXCERPT: Final = 200
_TIMEOUT: Final = 900.0


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``timeout`` is in seconds, None waits for ever."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = _TIMEOUT

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again though it may have been carried out."""
        return self.method == "GET" or "Idempotency-Key" in self.headers

    def content(self) -> bytes | None:
        """The bytes of the body; raises :class:`BadRequest` for values that JSON has no form for."""
        if self.body is None:
            return None
        try:
            return codec.dumps(self.body)
        except (TypeError, ValueError, InvalidRequest) as error:
            raise BadRequest(f"The arguments cannot be written as JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has been read."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object of a success; raises a :class:`StatusError`, or :class:`InvalidAnswer`."""
        if self.status >= 300:
            raise error_of(self)
        try:
            body = codec.loads(self.raw or b"{}")
        except InvalidRequest as error:
            raise self._invalid(f"it is not JSON ({self.raw[:_EXCERPT]!r})") from error
        if not isinstance(body, dict):
            raise self._invalid("it is not a JSON object")
        return body

    def _invalid(self, why: str) -> InvalidAnswer:
        return InvalidAnswer(
            f"The answer is none of an interactions service: {why}. Check base_url.", status=self.status
        )


def error_of(answer: Answer) -> StatusError:
    """The error that an answer tells, in whichever of Google's shapes (contract 7)."""
    told = parse(answer.status, answer.raw, answer.headers)
    headers = answer.headers
    return class_for(told.status)(
        told.message,
        status=told.status,
        code=told.code,
        retry_after=told.retry_after,
        interaction_id=headers.get("x-interaction-id"),
        request_id=headers.get("x-request-id"),
    )


def path_of(interaction_id: str, suffix: str = "", *, collection: str = PATH) -> str:
    """The path of one interaction; raises :class:`BadRequest` for an empty id, which would name all of them."""
    if not interaction_id:
        raise BadRequest("'interaction_id' is empty; pass the id of an interaction.")
    return f"{collection}/{quote(interaction_id, safe='')}{suffix}"


def options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a call that the caller's options decide."""
    headers = dict(options.get("extra_headers") or {})
    if (key := options.get("idempotency_key")) is not None:
        headers["Idempotency-Key"] = key
    return {"headers": headers, "timeout": options.get("timeout", _TIMEOUT)}
