"""Where a list goes on: opaque to callers, and checked against the list it is used for."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

from service.errors import InvalidRequest

_VERSION: Final = b"\x01"
_CHECK: Final = 6
#: A rank goes on with digests of what is left of it.
_LONGEST: Final = 2_048


def write(place: bytes, about: bytes) -> str:
    """The cursor behind a place in the list that ``about`` tells from every other list."""
    body = _VERSION + place
    return urlsafe_b64encode(body + _check(body, about)).rstrip(b"=").decode()


def read(cursor: str, about: bytes) -> bytes:
    """The place; raises :class:`InvalidRequest` for what is no cursor, or one of another list."""
    try:
        text = cursor.encode("ascii")
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4)) if len(text) <= _LONGEST else b""
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    body, check = raw[:-_CHECK], raw[-_CHECK:]
    if not body.startswith(_VERSION):
        raise InvalidRequest("The value is invalid for 'cursor'. Send a 'next_cursor' as it was answered.")
    if _check(body, about) != check:
        raise InvalidRequest(
            "The value is invalid for 'cursor'. It goes on with a list that had other filters or another order; "
            "send those with it, or leave it out."
        )
    return body[len(_VERSION) :]


def _check(body: bytes, about: bytes) -> bytes:
    return blake2b(body, digest_size=_CHECK, key=about[:64]).digest()
