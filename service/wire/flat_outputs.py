"""What flat ``outputs`` say that the steps beside them do not (contract 1.4).

A stream may tell all of its answer as steps, a part of it or nothing, and repeat it in the ``outputs`` of its last
event, cut into pieces in another way: whatever the steps say already must not come twice, and nothing may be lost.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from typing import Any, Final

from service.wire.legacy import outputs_to_steps, steps_to_outputs
from service.wire.steps import is_content, text_content, type_of

_Item = dict[str, Any]
#: Members of which one alone says which step it is.
_NAMES: Final = ("id", "call_id", "signature")


def unsaid(outputs: Any, steps: Iterable[Any]) -> list[_Item]:
    """The steps behind those of the ``outputs`` that ``steps`` do not say, in their order.

    What is no output, and a text that says nothing, is left out. Of a text whose beginning the steps say, only the
    rest is left.
    """
    if not isinstance(outputs, list) or not outputs:
        return []
    given = [text_content(output) if isinstance(output, str) else output for output in outputs]
    given = [output for output in given if isinstance(output, dict)]
    said = _Said(steps_to_outputs([step for step in steps if isinstance(step, dict)]))
    rests = [rest for output in given if (rest := said.rest_of(output)) is not None]
    return outputs_to_steps(rests)


class _Pieces:
    """What all content of one type says, one piece behind the other, and how much of it was met with."""

    __slots__ = ("_said", "_starts", "at")

    def __init__(self, pieces: list[bytes]) -> None:
        self._said = b"".join(pieces)
        self._starts: list[int] = []
        self.at = 0
        start = 0
        for piece in pieces:
            self._starts.append(start)
            start += len(piece)

    def meet(self, value: bytes) -> bool:
        """Whether it is said where the last one ended, or from the start of a later piece on."""
        for start in (self.at, *(start for start in self._starts if start > self.at)):
            if self._said.startswith(value, start):
                self.at = start + len(value)
                return True
        return False

    def begun(self, value: bytes) -> int:
        """How much of it is what is left here."""
        left = self._said[self.at :]
        if not left or not value.startswith(left):
            return 0
        self.at = len(self._said)
        return len(left)


class _Said:
    """What steps say, in terms of outputs."""

    def __init__(self, items: Iterable[Any]) -> None:
        pieces: dict[str, list[bytes]] = {}
        #: What says something that has no parts.
        self._whole: list[_Item] = []
        for item in items:
            if not isinstance(item, dict):
                continue
            value = _value(item)
            if value is None:
                self._whole.append(item)
            else:
                pieces.setdefault(type_of(item), []).append(value)
        self._pieces = {kind: _Pieces(values) for kind, values in pieces.items()}

    def rest_of(self, output: _Item) -> _Item | None:
        """The output as far as it is not said; None when all of it is."""
        value = _value(output)
        if value is None:
            return output if self._is_unknown(output) else None
        pieces = self._pieces.get(type_of(output))
        if not value or (pieces is not None and pieces.meet(value)):
            return None
        if pieces is None or type_of(output) != "text" or not (begun := pieces.begun(value)):
            return output
        return {**output, "text": value[begun:].decode("utf-8", "surrogatepass")}

    def _is_unknown(self, output: _Item) -> bool:
        for place, item in enumerate(self._whole):
            if _is_same(item, output):
                del self._whole[place]
                return False
        return True


def _value(item: _Item) -> bytes | None:
    """What content says, if that may arrive in pieces."""
    if not is_content(item):
        return None
    text, data = item.get("text"), item.get("data")
    if type_of(item) == "text":
        return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else None
    if not isinstance(data, str):
        return None
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return data.encode("utf-8", "surrogatepass")


def _is_same(said: _Item, output: _Item) -> bool:
    """Whether an output has the name of what was said, or nothing that this has not."""
    if type_of(said) != type_of(output):
        return False
    if any(output.get(name) and said.get(name) == output[name] for name in _NAMES):
        return True
    return all(said.get(name) == value for name, value in output.items() if value not in (None, "", [], {}))
