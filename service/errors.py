"""Every error the service can answer with, as one tree.

Each class knows its HTTP status and its wire code (contract 7.2); its docstring is the message when none is given.

* ServiceError
  + InvalidRequest            400 invalid_request
    - ParameterUnknown        400 parameter_unknown
    - FailedPrecondition      400 failed_precondition
  + Unauthenticated           401 authentication
  + PermissionDenied          403 permission_denied
  + NotFound                  404 not_found
    - ModelNotFound           404 model_not_found
  + MethodNotAllowed          405 method_not_allowed
  + RequestTimeout            408 deadline_exceeded
  + Aborted                   409 aborted
    - Superseded              409 aborted
  + PayloadTooLarge           413 payload_too_large
  + ExpectationFailed         417 invalid_request
  + IdempotencyKeyReused      422 unprocessable_entity
  + NotRecorded               424 not_recorded
  + RateLimitExceeded         429 rate_limit_exceeded
  + ApiError                  500 api_error
    - StoreError              500 api_error
  + BadGateway                502 bad_gateway
  + ServiceUnavailable        503 service_unavailable
  + DeadlineExceeded          504 deadline_exceeded
  + UpstreamError             as upstream answered
* ConfigurationError          exit status 2
  + DatabaseUnusable
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class ServiceError(Exception):
    """The request could not be served."""

    status: int = 500
    code: str = "api_error"
    #: Seconds after which the caller may try again; travels as ``Retry-After``.
    retry_after: float | None
    #: Our id of the interaction that failed, once it has one; travels as ``x-interaction-id``.
    interaction_id: str | None = None
    #: Whether this is what an earlier request with the same idempotency key was refused with.
    replayed: bool = False
    #: The deployment asked last and the number of attempts; travel as ``x-deployment`` and ``x-attempts``.
    deployment: str | None = None
    attempts: int | None = None

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        # What it quotes of a header may be no text.
        self.message = (message or (type(self).__doc__ or "").strip()).encode("utf-8", "replace").decode()
        self.retry_after = retry_after
        super().__init__(self.message)

    def body(self) -> dict[str, dict[str, str]]:
        """Google's error shape (contract 7.1)."""
        return {"error": {"code": self.code, "message": self.message}}


class InvalidRequest(ServiceError):
    """Request contains an invalid argument."""

    status = 400
    code = "invalid_request"


class ParameterUnknown(InvalidRequest):
    """Unknown parameter."""

    code = "parameter_unknown"


class FailedPrecondition(InvalidRequest):
    """The interaction is not in a state that allows this."""

    code = "failed_precondition"


class Unauthenticated(ServiceError):
    """Send the service's key as 'Authorization: Bearer KEY', 'x-goog-api-key', 'x-api-key' or '?key='."""

    status = 401
    code = "authentication"


class PermissionDenied(ServiceError):
    """The key may not do this."""

    status = 403
    code = "permission_denied"


class NotFound(ServiceError):
    """Not found."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No deployment serves this model."""

    code = "model_not_found"


class MethodNotAllowed(ServiceError):
    """This path does not allow the method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(ServiceError):
    """The head of the request has not arrived in time; send it as a whole."""

    status = 408
    code = "deadline_exceeded"


class Aborted(ServiceError):
    """The operation conflicts with another one."""

    status = 409
    code = "aborted"


class Superseded(Aborted):
    """Another process has taken this interaction over, because this one was silent for too long; read it by its id."""


class PayloadTooLarge(ServiceError):
    """The request body is larger than this service accepts."""

    status = 413
    code = "payload_too_large"


class ExpectationFailed(ServiceError):
    """This service expects and meets '100-continue' only; send the request without another 'Expect'."""

    status = 417
    code = "invalid_request"


class IdempotencyKeyReused(ServiceError):
    """The idempotency key belongs to a request with another body."""

    status = 422
    code = "unprocessable_entity"


class NotRecorded(ServiceError):
    """No recorded interaction answers this request."""

    status = 424
    code = "not_recorded"


class RateLimitExceeded(ServiceError):
    """Too many requests."""

    status = 429
    code = "rate_limit_exceeded"


class ApiError(ServiceError):
    """The service failed to process the request."""

    status = 500
    code = "api_error"


class StoreError(ApiError):
    """The store could not complete the operation."""


class BadGateway(ServiceError):
    """Upstream gave an answer that cannot be understood."""

    status = 502
    code = "bad_gateway"


class ServiceUnavailable(ServiceError):
    """The service is overloaded or stopping; try again."""

    status = 503
    code = "service_unavailable"


class DeadlineExceeded(ServiceError):
    """Upstream did not answer in time."""

    status = 504
    code = "deadline_exceeded"


class UpstreamError(ServiceError):
    """Upstream refused the request; status, code and message are its own, as is the ``reason`` in its details."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        self.code = code
        self.reason = reason


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the key and the remedy."""

    exit_status: ClassVar[int] = 2


class DatabaseUnusable(ConfigurationError):
    """The database cannot be used for a reason; the message begins with the name of what gave its URL."""

    def __init__(self, reason: str, source: str = "general_settings.database_url") -> None:
        self.reason = reason
        super().__init__(f"{source}: {reason}")


@contextmanager
def database_from(source: str) -> Iterator[None]:
    """Let what is raised of a database in here name ``source``: who opens it knows its URL alone."""
    try:
        yield
    except DatabaseUnusable as error:
        raise DatabaseUnusable(error.reason, source) from error
