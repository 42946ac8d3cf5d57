"""Who is calling: the service's key, in any of the four places that clients put it (contract 1.3)."""

from __future__ import annotations

import hashlib
import hmac

from aiohttp import web

from service.errors import Unauthenticated
from service.interactions.calls import Principal
from service.store.tables import DEFAULT_PROJECT


class Authenticator:
    """Checks keys against the master key; without one, every caller is the default project's."""

    def __init__(self, master_key: str | None) -> None:
        self._digest = None if master_key is None else _digest(master_key)
        self._principal = Principal(DEFAULT_PROJECT)

    def principal(self, request: web.Request) -> Principal:
        """The principal of a request; raises :class:`Unauthenticated`. Takes the same time for every wrong key."""
        if self._digest is None:
            return self._principal
        for key in _keys(request):
            if hmac.compare_digest(_digest(key), self._digest):
                return self._principal
        raise Unauthenticated()


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
