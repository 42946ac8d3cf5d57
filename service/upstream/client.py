"""The Gemini Interactions API as the service uses it: create, get, cancel, delete; errors as the service's own tree.

Raises, from every call: :class:`~service.errors.UpstreamError` for what upstream refused,
:class:`~service.errors.ServiceUnavailable` when it could not be reached (nothing was sent),
:class:`~service.errors.DeadlineExceeded` and :class:`~service.errors.BadGateway` when the answer was lost. A create
whose time is over raises :class:`Late`: it has been sent, so its answer is waited for on, or given up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

from service.errors import BadGateway, DeadlineExceeded, InvalidRequest, ServiceError, ServiceUnavailable
from service.upstream.connection import ConnectFailed, ReadTimeout, TransportError
from service.upstream.deployments import Deployment
from service.upstream.response import BYTE_ORDER_MARK, LateAnswer, Response
from service.upstream.transport import Transport
from service.wire import codec, upstream_errors
from service.wire.diagnostics import with_errors_retold

#: Members of which every interaction has one, however little upstream tells (contract 1.4).
_OF_AN_INTERACTION: Final = frozenset({"id", "status", "steps", "outputs"})
#: Seconds for the small calls: get, cancel, delete.
_SHORT_TIMEOUT: Final = 30.0
#: Seconds until the stream of what runs already must have begun; there are other ways to learn of it.
_ATTACH_TIMEOUT: Final = 10.0
_BLANK_LINE: Final = b"\r\n"
_EVENT_STREAM: Final = "text/event-stream"
#: What a line of a stream may begin with: a comment, data, event, id or retry.
_LINE_BEGINNINGS: Final = (b":", b"d", b"e", b"i", b"r")

_Told = TypeVar("_Told")


class Reply(NamedTuple):
    """A unary answer: the bytes as upstream sent them, if they can be read for ever, and what they say."""

    status: int
    raw: bytes
    body: dict[str, Any]


class Late(DeadlineExceeded):
    """Upstream has not answered a create in time; :meth:`answer` or :meth:`give_up` must follow."""

    def __init__(self, late: LateAnswer, read: Callable[[Response], Awaitable[Reply | Response]]) -> None:
        super().__init__(
            f"Upstream did not answer in time ({late}). The request goes on, and what comes of it is recorded: GET the "
            "interaction that 'x-interaction-id' names."
        )
        self._response = late.response
        self._read = read
        self._given_up: ReadTimeout | None = None

    async def answer(self, seconds: float) -> Reply | Response:
        """What upstream answers within so many seconds more, a stream if it has begun by then; raises as creates do."""
        self._response.bound(seconds)
        try:
            answer = await self._read(self._response)
            if self._given_up is not None and isinstance(answer, Response):
                # It has begun in the same moment, and cannot be read on.
                raise self._given_up
        except TransportError as error:
            raise as_service_error(error) from error
        if isinstance(answer, Response):
            answer.bound(None)
        return answer

    def give_up(self) -> None:
        """Wait no longer; whoever does gets :class:`~service.errors.DeadlineExceeded`, or what is there as a whole."""
        self._given_up = ReadTimeout("it was waited for long enough")
        self._response.close(self._given_up)


class GeminiClient:
    """Calls upstream on behalf of one process."""

    def __init__(
        self,
        transport: Transport,
        *,
        request_timeout: float,
        stream_timeout: float,
        connect_timeout: float | None = None,
        first_byte_timeout: float | None = None,
        attach_timeout: float = _ATTACH_TIMEOUT,
    ) -> None:
        self._transport = transport
        self._request_timeout = request_timeout
        self._stream_timeout = stream_timeout
        self._connect_timeout = connect_timeout
        self._first_byte_timeout = first_byte_timeout
        self._attach_timeout = attach_timeout

    def create(self, deployment: Deployment, body: bytes, headers: bytes = b"") -> Awaitable[Reply]:
        """Send a create and read its whole answer within the deployment's time limit."""
        head = b"%b%bContent-Length: %d\r\n\r\n" % (
            deployment.create_line,
            _own(deployment, headers),
            len(body),
        )
        limit = deployment.settings.timeout or self._request_timeout
        return self._unary(deployment, head, body, limit, _made, patient=True)

    async def create_stream(
        self, deployment: Deployment, body: bytes, headers: bytes = b""
    ) -> Response | Reply:
        """Send a streaming create; returns the open stream once upstream has accepted it.

        A :class:`Reply` comes instead when upstream ignored the wish to stream. The time limit of a stream bounds each
        silence, not the whole.
        """
        head = b"%b%bContent-Length: %d\r\n\r\n" % (
            deployment.create_line,
            _own(deployment, headers),
            len(body),
        )
        return await self._stream(deployment, head, body, self._first_byte(deployment), patient=True)

    async def attach(
        self, deployment: Deployment, upstream_id: str, cursor: str | None, headers: bytes = b""
    ) -> Response | Reply:
        """Go on with a stream behind the event that upstream calls ``cursor``, or from its beginning (contract 4.6).

        The stream must begin soon, however long its silences may be afterwards.
        """
        query = "?stream=true" if cursor is None else f"?stream=true&last_event_id={quote(cursor, safe='')}"
        head = deployment.line("GET", upstream_id, query) + _own(deployment, headers) + _BLANK_LINE
        limit = min(self._first_byte(deployment) or self._attach_timeout, self._attach_timeout)
        return await self._stream(deployment, head, b"", limit)

    async def get(
        self, deployment: Deployment, upstream_id: str, *, headers: bytes = b"", include_input: bool = False
    ) -> Reply:
        """The interaction as upstream holds it, with its input if upstream keeps that and is asked for it."""
        query = "?include_input=true" if include_input else ""
        head = deployment.line("GET", upstream_id, query) + _own(deployment, headers) + _BLANK_LINE
        return await self._unary(deployment, head, b"", _SHORT_TIMEOUT, _reply)

    async def cancel(self, deployment: Deployment, upstream_id: str, *, headers: bytes = b"") -> Reply:
        """Cancel a running interaction; the answer is the interaction as it then stands."""
        head = (
            deployment.line("POST", upstream_id, "/cancel")
            + _own(deployment, headers)
            + b"Content-Length: 0\r\n\r\n"
        )
        return await self._unary(deployment, head, b"", _SHORT_TIMEOUT, _reply)

    async def delete(self, deployment: Deployment, upstream_id: str) -> None:
        """Delete upstream's copy."""
        head = deployment.line("DELETE", upstream_id) + _BLANK_LINE
        await self._unary(deployment, head, b"", _SHORT_TIMEOUT, _done)

    def _first_byte(self, deployment: Deployment) -> float | None:
        return deployment.settings.first_byte_timeout or self._first_byte_timeout

    async def _stream(
        self,
        deployment: Deployment,
        head: bytes,
        body: bytes,
        first_byte_timeout: float | None,
        *,
        patient: bool = False,
    ) -> Response | Reply:
        silence = deployment.settings.stream_timeout or self._stream_timeout
        try:
            response = await self._transport.request(
                deployment.origin,
                head,
                body,
                read_timeout=silence,
                connect_timeout=deployment.settings.connect_timeout or self._connect_timeout,
                first_byte_timeout=first_byte_timeout,
                patient=patient,
            )
            return await _begun(deployment, response)
        except LateAnswer as late:
            raise Late(late, partial(_begun, deployment)) from late
        except TransportError as error:
            raise as_service_error(error) from error

    async def _unary(
        self,
        deployment: Deployment,
        head: bytes,
        body: bytes,
        limit: float,
        understood: Callable[[Deployment, int, bytes], _Told],
        *,
        patient: bool = False,
    ) -> _Told:
        """``patient`` says that the answer is worth waiting for however late it comes."""
        settings = deployment.settings
        try:
            response = await self._transport.request(
                deployment.origin,
                head,
                body,
                total_timeout=limit,
                connect_timeout=settings.connect_timeout or self._connect_timeout,
                first_byte_timeout=settings.first_byte_timeout or self._first_byte_timeout,
                patient=patient,
            )
            raw = await response.read()
        except LateAnswer as late:
            raise Late(late, partial(_whole, deployment)) from late
        except TransportError as error:
            raise as_service_error(error) from error
        return understood(deployment, _accepted(deployment, response, raw), raw)


async def _begun(deployment: Deployment, response: Response) -> Response | Reply:
    await response.head()
    if response.status >= 300:
        raise _refusal(deployment, response, await response.read())
    named = response.headers.get("content-type", "").lower().startswith(_EVENT_STREAM)
    # Events are events under any name and under none, and so is a whole interaction.
    if named or (await response.beginning())[:1] in _LINE_BEGINNINGS:
        return response
    return _made(deployment, response.status, await response.read())


async def _whole(deployment: Deployment, response: Response) -> Reply:
    raw = await response.read()
    return _made(deployment, _accepted(deployment, response, raw), raw)


def _accepted(deployment: Deployment, response: Response, raw: bytes) -> int:
    """The status of an answer; raises what one means that is no success."""
    status = response.status
    if status >= 300:
        raise _refusal(deployment, response, raw)
    return status


def _done(deployment: Deployment, status: int, sent: bytes) -> None:
    """An answer of which nothing matters but that it came."""


def _made(deployment: Deployment, status: int, sent: bytes) -> Reply:
    """The answer to a create; raises :class:`BadGateway` for JSON that says nothing of an interaction."""
    reply = _reply(deployment, status, sent)
    if not is_interaction(reply.body):
        raise BadGateway(f"Upstream answered {status} with what is no interaction; the request may have run.")
    return reply


def is_interaction(body: Any) -> bool:
    """Whether JSON that upstream sent says anything of an interaction."""
    return isinstance(body, dict) and not _OF_AN_INTERACTION.isdisjoint(body)


def _reply(deployment: Deployment, status: int, sent: bytes) -> Reply:
    try:
        raw, parsed = _readable(sent)
    except InvalidRequest as error:
        reason = error.message.rstrip(".")
        raise BadGateway(
            f"Upstream answered {status} with a body that cannot be read ({reason}); the request may have run."
        ) from error
    if not is_interaction(parsed) and (said := upstream_errors.said_in(parsed)) is not None:
        code, message = said
        # Whatever it is that upstream refuses by its answer, its status says that it was done.
        refusal = BadGateway(deployment.discreet(message))
        refusal.code = code
        raise refusal
    if not isinstance(parsed, dict):
        raise BadGateway(
            f"Upstream answered {status} with a body that is not a JSON object; the request may have run."
        )
    body = with_errors_retold(parsed, deployment.discreet)
    return Reply(status, raw if body is parsed else codec.dumps(body), body)


def _readable(sent: bytes) -> tuple[bytes, Any]:
    """What is kept of an answer, and what it says: as it was sent, or anew where no UTF-8 can hold it."""
    sent = sent.removeprefix(BYTE_ORDER_MARK)
    try:
        return sent, codec.loads_foreign(sent)
    except codec.NestedTooDeeply:
        raise
    except InvalidRequest:
        with suppress(InvalidRequest):
            body = codec.loads_replacing(sent)
            return codec.dumps(body), body
        raise


def as_service_error(error: TransportError) -> ServiceError:
    """What a caller is told when upstream could not be spoken to."""
    match error:
        case ConnectFailed():
            return ServiceUnavailable(f"Upstream cannot be reached ({error}).", retry_after=1)
        case ReadTimeout():
            return DeadlineExceeded(
                f"Upstream did not answer in time ({error}); the request may still be running."
            )
        case _:
            return BadGateway(
                f"Upstream broke the connection before its answer was complete ({error}); it may have run."
            )


def _refusal(deployment: Deployment, response: Response, body: bytes) -> ServiceError:
    if response.status < 400:
        return BadGateway(
            f"Upstream answered {response.status} and sends the request elsewhere; check the deployment's api_base."
        )
    error = upstream_errors.parse(response.status, body, response.headers)
    error.message = deployment.discreet(error.message)
    return error


def _own(deployment: Deployment, headers: bytes) -> bytes:
    """A caller's header lines, for an upstream on this machine only."""
    return headers if deployment.local else b""
