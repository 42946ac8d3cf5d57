"""One step, put together from its deltas (contract 4.4).

Text comes in tens of thousands of fragments, which are joined when somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.errors import InvalidRequest
from service.wire import codec
from service.wire.fragments import Fragments
from service.wire.steps import IDENTITY, MEDIA_TYPES, TOOL_TYPES, content_list, text_content, type_of


class StepBuilder:
    """A step from its ``step.start`` on. The events it is made from are not changed."""

    __slots__ = ("_arguments", "_fragments", "_step", "_text", "_text_item")

    def __init__(self, start: dict[str, Any]) -> None:
        self._step = _own(start)
        #: String members that arrive in fragments.
        self._fragments: dict[str, Fragments] = {}
        self._arguments = Fragments()
        #: The text content that more text belongs to, and its text.
        self._text_item: dict[str, Any] | None = None
        self._text = Fragments()

    def start_late(self, start: dict[str, Any]) -> None:
        """Take in the start of a step of which deltas came before; what both have is as the deltas have it."""
        start = _own(start)
        content, summary = start.pop("content", None), start.pop("summary", None)
        self._join()
        self._step = {**start, **self._step, "type": start.get("type", self._step.get("type"))}
        if content:
            self._close_text()
            self._content().extend(content_list(content))
        for item in summary if isinstance(summary, list) else ():
            self._add_summary(item)

    def apply(self, delta: dict[str, Any]) -> None:
        """Add one delta. Never raises: what is not understood is merged member by member."""
        kind = type_of(delta)
        if kind == "text":
            self._add_text(delta)
        elif kind == "arguments_delta":
            self._add_arguments(delta)
        elif kind == "thought_signature":
            self._append("signature", delta.get("signature"))
        elif kind == "thought_summary":
            self._add_summary(delta.get("content"))
        elif kind in ("text_annotation_delta", "text_annotation"):
            self._annotate(delta.get("annotations"))
        elif kind in MEDIA_TYPES:
            self._close_text()
            self._content().append(delta)
        elif kind in TOOL_TYPES:
            self._merge(delta)
        else:
            self._extend(delta)

    def add_texts(self, texts: Iterable[str]) -> bool:
        """Add what deltas of text alone tell; False, and nothing is added, where the step's last content is no text."""
        if self._current_text() is None:
            return False
        self._text.add("".join(texts))
        return True

    def build(self) -> dict[str, Any]:
        """The step as it stands; arguments that do not parse are the string that arrived."""
        self._join()
        step = dict(self._step)
        content = step.get("content")
        if isinstance(content, list):
            step["content"] = [_own(item) if isinstance(item, dict) else item for item in content]
        if text := self.arguments_text:
            step["arguments"] = _parse_arguments(text)
        return step

    @property
    def arguments_text(self) -> str:
        """The fragments of the arguments' JSON text that have arrived."""
        return self._arguments.text()

    def continued(self, deltas: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The step as it would stand after these deltas; this builder stays as it is."""
        self._join()
        other = StepBuilder(self._step)
        other._arguments = self._arguments.copy()
        for delta in deltas:
            other.apply(delta)
        return other.build()

    def _add_text(self, delta: dict[str, Any]) -> None:
        text = delta.get("text")
        item = self._current_text()
        if item is None:
            self._open_text(_own(delta))
            return
        if isinstance(text, str):
            self._text.add(text)
        for member, value in delta.items():
            if member == "annotations":
                self._annotate(value)
            elif member not in ("type", "text"):
                item[member] = value

    def _annotate(self, annotations: Any) -> None:
        if not isinstance(annotations, list):
            return
        item = self._current_text() or self._open_text(text_content(""))
        known = item.get("annotations")
        if isinstance(known, list):
            known.extend(annotations)
        else:
            item["annotations"] = list(annotations)

    def _current_text(self) -> dict[str, Any] | None:
        """The last content item, if it is text."""
        if self._text_item is None:
            content = self._content()
            last = content[-1] if content else None
            if isinstance(last, dict) and type_of(last) == "text":
                content.pop()
                self._open_text(_own(last))
        return self._text_item

    def _open_text(self, item: dict[str, Any]) -> dict[str, Any]:
        self._content().append(item)
        self._text_item = item
        text = item.get("text")
        self._text = Fragments(text) if isinstance(text, str) else Fragments()
        return item

    def _close_text(self) -> None:
        if self._text_item is not None and self._text:
            self._text_item["text"] = self._text.text()
        self._text_item = None

    def _content(self) -> list[Any]:
        content = self._step.get("content")
        if not isinstance(content, list):
            if fragments := self._fragments.pop("content", None):
                content = fragments.text()
            content = self._step["content"] = content_list(content)
        return content

    def _add_summary(self, content: Any) -> None:
        if not isinstance(content, dict):
            return
        # One upstream leaves the type out of its summaries, and refuses them without it later.
        item = {"type": "text", **content} if "text" in content else content
        summary = self._step.get("summary")
        if isinstance(summary, list):
            summary.append(item)
        else:
            self._set("summary", [item])

    def _add_arguments(self, delta: dict[str, Any]) -> None:
        fragment = delta.get("arguments")
        if isinstance(fragment, str):
            self._arguments.add(fragment)
        elif isinstance(fragment, dict):
            self._merge({"arguments": fragment})

    def _merge(self, delta: dict[str, Any]) -> None:
        """Members replace; objects are merged one level deep; an empty signature is a placeholder."""
        for member, value in delta.items():
            known = self._step.get(member)
            if member == "type" or (member == "signature" and not value and known):
                continue
            if isinstance(known, dict) and isinstance(value, dict):
                self._step[member] = {**known, **value}
            else:
                self._set(member, value)

    def _extend(self, delta: dict[str, Any]) -> None:
        """The rule for deltas nobody has described: strings append, but not to lists; other members replace."""
        for member, value in delta.items():
            if member == "type":
                continue
            if isinstance(value, str) and member not in IDENTITY:
                self._append(member, value)
            else:
                self._set(member, value)

    def _append(self, member: str, fragment: Any) -> None:
        if not isinstance(fragment, str):
            return
        fragments = self._fragments.get(member)
        if fragments is None:
            known = self._step.get(member)
            if isinstance(known, list):
                return
            fragments = self._fragments[member] = Fragments()
            if isinstance(known, str):
                fragments.add(known)
        fragments.add(fragment)

    def _set(self, member: str, value: Any) -> None:
        self._fragments.pop(member, None)
        if member == "content":
            self._text_item = None
        self._step[member] = list(value) if isinstance(value, list) else value

    def _join(self) -> None:
        if self._text_item is not None and self._text:
            self._text_item["text"] = self._text.text()
        for member, fragments in self._fragments.items():
            self._step[member] = fragments.text()


def _own(value: dict[str, Any]) -> dict[str, Any]:
    """A copy whose lists may be added to."""
    return {member: list(item) if isinstance(item, list) else item for member, item in value.items()}


def _parse_arguments(text: str) -> Any:
    try:
        return codec.loads_foreign(text.encode())
    except (InvalidRequest, UnicodeEncodeError):
        return text
