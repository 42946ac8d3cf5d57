"""Labels: what callers tell their interactions apart by, in the body (contract 2.1) or in a header of ours.

The header is ``x-interactions-labels: team=search,env=prod``; a comma, an equals sign or anything that is not ASCII
in it is percent-encoded. It is never forwarded. Labels are kept as one flat object of strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import orjson

from service.errors import InvalidRequest

HEADER: Final = "x-interactions-labels"
NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_MOST: Final = 64
_LONGEST: Final = 256


def of_header(value: str | None) -> Mapping[str, str]:
    """The labels of a header; raises :class:`InvalidRequest` naming what cannot be one."""
    if value is None:
        return NO_LABELS
    if not _is_utf8(value):
        raise InvalidRequest(
            f"The header '{HEADER}' is not UTF-8; write what is not ASCII percent-encoded, as team=M%C3%BCller."
        )
    labels: dict[str, str] = {}
    for part in value.split(","):
        if not part.strip():
            continue
        name, equals, given = part.partition("=")
        name, given = unquote(name.strip()), unquote(given.strip())
        if not equals or not name:
            raise InvalidRequest(
                f"The header '{HEADER}' has {part.strip()[:50]!r}; write labels as team=search,env=prod."
            )
        if len(name) > _LONGEST or len(given) > _LONGEST:
            raise InvalidRequest(f"The header '{HEADER}' has a label longer than {_LONGEST} characters.")
        labels[name] = given
    if len(labels) > _MOST:
        raise InvalidRequest(f"The header '{HEADER}' has more than {_MOST} labels.")
    return labels


def stored(in_body: Any, in_header: Mapping[str, str]) -> str | None:
    """Labels as they are kept: those of the body, and over them those of the header; None without any.

    In a body only texts, numbers and booleans can be labels; the rest stays in the request alone.
    """
    members = in_body.items() if isinstance(in_body, dict) else ()
    if not members and not in_header:
        return None
    labels = {name: text for name, value in members if (text := _text(value)) is not None}
    labels |= in_header
    if not labels:
        return None
    kept = dict(list(labels.items())[-_MOST:])
    return orjson.dumps({_plain(name): _plain(value) for name, value in sorted(kept.items())}).decode()


def _is_utf8(value: str) -> bool:
    """Whether a header's value was UTF-8; bytes that are not arrive as lone surrogates (PEP 383)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return orjson.dumps(value).decode() if isinstance(value, bool | float) else str(value)
    return None


def _plain(text: str) -> str:
    return text[:_LONGEST].replace("\0", "\ufffd")
