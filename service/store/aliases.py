"""Where an upstream id stands in the index that finds an interaction by it: by its hash, or by the time that it tells.

Ids of Google's are base64 of a message that holds one token twice (contract 3.3), and the token begins with the moment
that it was made at: its seconds in four bytes, the lowest first, and then its microseconds as a protobuf varint, as in
the ids of Google's other services. Nothing depends on that being so. But where the index is in the order of time, the
interactions that are written together have their entries side by side, and each does not dirty a page of its own, which
is a quarter of what SQLite's writer takes for a create. On PostgreSQL no difference can be measured, and replicas of
earlier versions, which know of hashes only, may run beside this one; so it is SQLite that writes places by time, and
whoever looks an id up looks for both.
"""

from __future__ import annotations

from binascii import a2b_base64
from hashlib import blake2b
from typing import Final

from sqlalchemy import BigInteger, bindparam

#: ``v1_`` and as many characters of the message as have the token's first nine bytes.
_PREFIX: Final = "v1_"
_BEGINNING: Final = slice(3, 23)
#: The base64 of addresses (RFC 4648 5) in the alphabet of :mod:`binascii`.
_FROM_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
#: The message's first field is text of 23 characters, of which these are the first.
_FIELD: Final = b"\x0a\x17"
_TOKEN: Final = slice(2, 14)
_SECONDS: Final = 4
_MICROSECONDS: Final = slice(4, 7)
#: Bits of a place that tell the microsecond, and those that tell ids of one microsecond apart.
_MICROSECOND_BITS: Final = 20
_HASH_BITS: Final = 12

#: What ``upstream_id_hash`` may be, in a query with the parameters of :func:`places_of`.
PLACES: Final = tuple(bindparam(name, type_=BigInteger) for name in ("by_hash", "by_time"))


def by_hash(upstream_id: str) -> int:
    """64 bits of the id's hash."""
    return int.from_bytes(blake2b(upstream_id.encode(), digest_size=8).digest(), "big", signed=True)


def by_time(upstream_id: str) -> int:
    """64 bits that ids seldom share, in the order of time where an id tells that; otherwise :func:`by_hash`."""
    hashed = by_hash(upstream_id)
    if (moment := _moment(upstream_id)) is None:
        return hashed
    place = moment << _HASH_BITS | hashed & (1 << _HASH_BITS) - 1
    return place - (1 << 64) if place >> 63 else place


def places_of(upstream_id: str) -> dict[str, int]:
    """The parameters of a query that looks an upstream id up."""
    return {"by_hash": by_hash(upstream_id), "by_time": by_time(upstream_id)}


def _moment(upstream_id: str) -> int | None:
    """The seconds and, in the lowest 20 bits, the microseconds that an id of Google's tells."""
    if not upstream_id.startswith(_PREFIX):
        return None
    try:
        message = a2b_base64(upstream_id[_BEGINNING].encode().translate(_FROM_URLSAFE))
        if not message.startswith(_FIELD):
            return None
        token = a2b_base64(message[_TOKEN].translate(_FROM_URLSAFE))
    except ValueError:
        return None
    # Of a number, all bytes but the last have the high bit; a token that ends before has no number.
    first, second, third = token[_MICROSECONDS].ljust(3, b"\x80")
    if first < 0x80:
        microseconds = first
    elif second < 0x80:
        microseconds = first & 0x7F | second << 7
    elif third < 0x80:
        microseconds = first & 0x7F | (second & 0x7F) << 7 | third << 14
    else:
        return None
    if microseconds >= 1_000_000:
        return None
    return int.from_bytes(token[:_SECONDS], "little") << _MICROSECOND_BITS | microseconds
