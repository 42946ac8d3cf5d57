"""The ``Idempotency-Key`` header, and what makes two requests the same (draft-ietf-httpapi-idempotency-key-header-07).

The header's value is a string of structured fields (RFC 9651, 3.3.3): in quotation marks. Most clients leave them out,
so a bare value is taken as it is; ``"k"`` and ``k`` are one key. Parameters behind a string mean nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from service.errors import InvalidRequest

HEADER: Final = "Idempotency-Key"
#: Characters that a key may have.
LONGEST: Final = 255

_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"(?:;[ -~]*)?')
_ESCAPED: Final = re.compile(r"\\(.)")
_BARE: Final = re.compile(r"[!#-+\--:<-\[\]-~]+")
_DIGEST: Final = 32


def parse(values: Sequence[str]) -> str | None:
    """The key of a request, from every value of the header; None without one.

    Raises InvalidRequest when a value is no key, or two are different.
    """
    keys = {_key(value.strip(" \t")) for value in values}
    if len(keys) > 1:
        raise InvalidRequest(f"The request has {len(keys)} different values of '{HEADER}'; send one.")
    return keys.pop() if keys else None


def _key(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        key = _ESCAPED.sub(r"\1", quoted[1])
    elif _BARE.fullmatch(value) is not None:
        key = value
    elif not value:
        key = ""
    else:
        raise InvalidRequest(
            f"The header '{HEADER}' is not a key. Send a string of visible ASCII characters in quotation marks, such "
            'as "8e03978e-40d5-43dd-bc93-6894a57f9324".'
        )
    if not 0 < len(key) <= LONGEST:
        raise InvalidRequest(
            f"The key in '{HEADER}' has {len(key)} characters; it must have between 1 and {LONGEST}."
        )
    return key


def fingerprint(body: dict[str, Any]) -> bytes:
    """A digest of a parsed request: the same for all texts of one document, whatever their spaces and member order."""
    return blake2b(_canonical(body), digest_size=_DIGEST).digest()


def _canonical(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    except RecursionError as error:
        raise InvalidRequest("JSON is nested too deeply to be forwarded.") from error
