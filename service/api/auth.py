"""Who is calling: the service's key, in any of the four places that clients put it (contract 1.3)."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from service.errors import PermissionDenied, Unauthenticated
from service.interactions.calls import Principal
from service.settings.checks import is_loopback
from service.store.tables import DEFAULT_PROJECT


class Authenticator:
    """Checks keys against the master key; without one, every caller is the default project's."""

    def __init__(self, master_key: str | None) -> None:
        self._digest = None if master_key is None else _digest(master_key)
        self._principal = Principal(DEFAULT_PROJECT)

    def principal(self, request: web.Request) -> Principal:
        """The principal of a request; raises :class:`Unauthenticated`. Takes the same time for every wrong key."""
        if self._digest is None:
            _check_local(request)
            return self._principal
        for key in _keys(request):
            if hmac.compare_digest(_digest(key), self._digest):
                return self._principal
        raise Unauthenticated()


def _check_local(request: web.Request) -> None:
    """Without a key nothing but the address protects the service, and a web page's requests come from this machine.

    Raises :class:`PermissionDenied` for a host name that is not this machine's (a name that was re-bound to it) and
    for requests that a page of another site makes.
    """
    headers = request.headers
    if not _names_this_machine(headers.get("host", "")):
        raise PermissionDenied("Without a master key this service answers to local host names only.")
    origin = headers.get("origin")
    if headers.get("sec-fetch-site") == "cross-site" or (
        origin is not None and not _names_this_machine(origin.partition("://")[2])
    ):
        raise PermissionDenied(
            "Without a master key this service does not answer to web pages of other sites."
        )


@lru_cache(maxsize=256)
def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _keys(request: web.Request) -> list[str]:
    headers = request.headers
    found = [headers.get("x-goog-api-key"), headers.get("x-api-key")]
    authorization = headers.get("authorization", "")
    if authorization[:7].lower() == "bearer ":
        found.append(authorization[7:].strip())
    if "key=" in request.query_string:
        found.append(request.query.get("key"))
    return [key for key in found if key]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
