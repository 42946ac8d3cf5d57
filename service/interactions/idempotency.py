"""Which failures bind an idempotency key.

A key is there so that a request may be sent again without being run twice. So what cannot have run leaves the key
free, and the next request with it is tried anew: nothing was sent, upstream could not be reached, said that it is too
busy, or refused the service's own key, which may be mended. Every other end is bound to the key: a refusal, because it
would come again, and a failure after which the request may have run, because trying again might run it twice.
"""

from __future__ import annotations

from typing import Final

from service.errors import ServiceError
from service.interactions.calls import Job
from service.upstream.routing.retry import OF_THE_KEY, failure_of

_BUSY: Final = frozenset({408, 409, 429})


def frees_key(job: Job, error: ServiceError) -> bool:
    """Whether the key of a job that failed before it had an answer is free again."""
    if job.call.claim is None:
        return False
    if not job.attempts:
        return True
    if any("ambiguous" in attempt for attempt in job.attempts):
        return False
    return error.status in _BUSY or error.status >= 500 or failure_of(error).kind in OF_THE_KEY
