"""Media that content names by a URI in place of bytes (contract 5.2): where they are in steps, and how to put bytes in.

Such content stands in the lists of a step that hold content: what a user or a model said, the result of a function or
of a tool, the summary of a thought. A result that is an object of the caller's own making is not looked into.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from service.wire.steps import MEDIA_TYPES, type_of

Step = dict[str, Any]
Content = dict[str, Any]

_HOLDERS: Final = ("content", "result", "summary")
_MEMBER: Final = b'"uri"'


def may_refer(*bodies: bytes | None) -> bool:
    """Whether any of these JSON texts can name media by a URI: cheap, and sure only when it says no."""
    return any(body is not None and _MEMBER in body for body in bodies)


def references(steps: Iterable[Step]) -> Iterator[Content]:
    """Every content that names its bytes by a URI."""
    for step in steps:
        for holder in _HOLDERS:
            held = step.get(holder)
            if isinstance(held, list):
                yield from filter(_is_reference, held)


def changed(steps: Iterable[Step], change: Callable[[Content], Content]) -> list[Step]:
    """The steps with every such content replaced by what ``change`` makes of it; the argument stays as it is."""
    return [_changed(step, change) for step in steps]


def with_bytes(content: Content, body: bytes, mime_type: str) -> Content:
    """The content with its bytes in place of the URI; it keeps a type that it tells itself."""
    told = {name: value for name, value in content.items() if name != "uri"}
    return {**told, "data": base64.b64encode(body).decode(), "mime_type": told.get("mime_type") or mime_type}


def _changed(step: Step, change: Callable[[Content], Content]) -> Step:
    for holder in _HOLDERS:
        held = step.get(holder)
        if isinstance(held, list) and any(map(_is_reference, held)):
            told = [change(item) if _is_reference(item) else item for item in held]
            step = {**step, holder: told}
    return step


def _is_reference(content: Any) -> bool:
    return type_of(content) in MEDIA_TYPES and isinstance(content.get("uri"), str) and not content.get("data")
