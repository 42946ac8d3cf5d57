"""Every error of the client library, as one tree below :class:`InteractionsError`.

* InteractionsError
  + SdkConfigurationError     what to ask is not configured: a key, a file, a URL, a database
  + ClientUnusable            the client is closed, or cannot be used where it was called
  + ConnectionFailed          no connection was made; nothing was sent
  + ConnectionLost            the connection ended before the answer; the request may have been carried out
    - StreamLost              a stream that could not be taken up again
  + RequestTimeout            no answer in time; the request may have been carried out
  + WaitTimeout               the interaction was still running when the patience of ``wait`` ended
  + InvalidAnswer             what came is no answer of an interactions service
  + StatusError               the service refused; the class says which status
    - BadRequest 400, AuthenticationFailed 401, PermissionRefused 403, InteractionNotFound 404, Conflict 409,
      RequestTooLarge 413, RateLimited 429, ServiceFailed 5xx
"""

from __future__ import annotations

from typing import Final


class InteractionsError(Exception):
    """Whatever goes wrong in a call; catch this to catch everything."""

    #: The HTTP status, where a service has answered.
    status: int | None
    #: Google's error code (``not_found``, ``rate_limit_exceeded``, ...), where there is one.
    code: str | None
    #: Seconds after which the call may be tried again, where the service has said so.
    retry_after: float | None
    #: The interaction that failed, once it has an id: it can be read back under it.
    interaction_id: str | None
    #: What to quote to the operator of the service.
    request_id: str | None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        interaction_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.interaction_id = interaction_id
        self.request_id = request_id


class SdkConfigurationError(InteractionsError):
    """Nothing can be asked: the message names what to set."""


class ClientUnusable(InteractionsError, RuntimeError):
    """The client is closed, or was called where it cannot work: in a process that was forked off, on its own thread."""


class ConnectionFailed(InteractionsError):
    """No connection could be made. Nothing was sent, so the call may be repeated."""


class ConnectionLost(InteractionsError):
    """The connection ended before the answer did. The request may have been carried out and stored."""


class StreamLost(ConnectionLost):
    """A stream broke and could not be taken up again; what it tells can be read under ``interaction_id``."""


class RequestTimeout(InteractionsError, TimeoutError):
    """There was no answer within ``timeout``. The request may have been carried out and stored."""


class WaitTimeout(InteractionsError, TimeoutError):
    """The interaction had not ended when the patience of ``wait`` was over; it goes on."""


class InvalidAnswer(InteractionsError):
    """What came is no answer of an interactions service: look at the URL."""


class StatusError(InteractionsError):
    """The service refused the request, or upstream did."""


class BadRequest(StatusError):
    """400: the message names the field and the remedy."""


class AuthenticationFailed(StatusError):
    """401: the key is missing or wrong."""


class PermissionRefused(StatusError):
    """403: the key may not do this."""


class InteractionNotFound(StatusError):
    """404: there is no such interaction, or no such model, for this key."""


class Conflict(StatusError):
    """409: the operation conflicts with another one."""


class RequestTooLarge(StatusError):
    """413: the request is larger than the service takes."""


class RateLimited(StatusError):
    """429: too many requests; ``retry_after`` says when to come back, if upstream did."""


class ServiceFailed(StatusError):
    """5xx: the service or upstream failed."""


_CLASSES: Final[dict[int, type[StatusError]]] = {
    400: BadRequest,
    401: AuthenticationFailed,
    403: PermissionRefused,
    404: InteractionNotFound,
    409: Conflict,
    413: RequestTooLarge,
    429: RateLimited,
}


def class_for(status: int) -> type[StatusError]:
    """The class of the error with this HTTP status."""
    return _CLASSES.get(status, ServiceFailed if status >= 500 else StatusError)
