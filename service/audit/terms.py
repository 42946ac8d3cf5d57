"""Terms: digests of what an interaction is, by which lists find it without looking through all the others.

``listing_terms`` has, for each term, the keys of its interactions in the order of time: a page of any filter is one
walk along one term, however rare what it asks for is. Numbers that lists are bounded by have a term for each bucket of
about 40 % width, and a bound is the buckets that it covers; of those that are zero as a rule, zero has none, and who
asks for it walks along all. A term is 64 bits of a hash: that two may share one costs a look at a row, because every
condition is checked against the row itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

from service.audit.fields import FIELDS
from service.audit.filters import ANY, Bounds, Choice, Filters, Label
from service.store.kept_holds import labels_of

#: Filters that lead to a term, those that usually mean fewest first.
_LEADING: Final = (
    "replay_of",
    "error_code",
    "key_id",
    "agent",
    "status",
    "service_tier",
    "deployment",
    "model",
    "model_requested",
    "background",
    "stream",
    "store",
)
#: Columns of texts that have a term for each value; what is the same in nearly every row has none where it is usual.
_TEXTS: Final = {
    "error_code": "error_code",
    "agent": "agent",
    "status": "status",
    "service_tier": "service_tier",
    "deployment": "deployment_id",
    "model_requested": "model_requested",
}
#: Columns that are empty in most rows, and one that may be empty in many: those in which one is not can be asked for.
_RARE: Final = ("agent", "error_code", "replay_of")
_ANY: Final = (*_RARE, "key_id")
#: Flags that have a term where they are unusual.
_UNUSUAL: Final = {"background": 1, "stream": 1, "store": 0}
#: Numbers that have terms, as they stand in the tables.
_NUMBERS: Final = ("input_tokens", "output_tokens", "total_tokens", "cost", "duration", "http_status")
#: Those that have them since later.
LATER_NUMBERS: Final = (
    "thought_tokens",
    "cached_tokens",
    "tool_use_tokens",
    "first_event",
    "depth",
    "request_bytes",
    "response_bytes",
)
#: Columns of :data:`_ANY` that are since later.
_LATER_ANY: Final = frozenset({"key_id"})
#: What there are terms of since later: :mod:`service.audit.filling_in` says whether all interactions have them.
LATER: Final = _LATER_ANY.union(LATER_NUMBERS)
#: The number that is larger than nothing where a column is not empty.
_NUMBER_OF: Final = {"previous_interaction_id": "depth", "chain": "depth"}
#: Numbers whose zero has no term.
_USUALLY_ZERO: Final = frozenset({"cached_tokens", "tool_use_tokens", "depth"})
#: The columns that terms which are since later are made from.
LATER_COLUMNS: Final = (
    "id",
    "project_id",
    "created_at",
    "first_byte_at",
    *sorted(_LATER_ANY),
    *(name for name in LATER_NUMBERS if name != "first_event"),
)
#: Whatever is larger shares the last bucket: 10**13 tokens, 17,000 dollars, 200 days.
_LARGEST: Final = 2**44
#: The same where so much is never met: fewer buckets are fewer walks.
_LARGEST_OF: Final = dict.fromkeys(LATER_NUMBERS, 2**36) | {"depth": 2**16}
_PER_OCTAVE: Final = 2


def term(project_id: bytes, name: str, value: object = "") -> int:
    """The term of a value within a project, as a signed 64-bit number."""
    told = f"{name}\0{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(told, digest_size=8, key=project_id).digest(), "big", signed=True)


def bucket_of(number: int, largest: int = _LARGEST) -> int:
    """The bucket of a number; 0 is that of nothing."""
    return 1 + math.floor(_PER_OCTAVE * math.log2(min(number, largest))) if number > 0 else 0


def of_row(it: Mapping[str, Any]) -> set[int]:
    """The terms of an interaction with the columns of its row."""
    project_id: bytes = it["project_id"]
    return {term(project_id, name, value) for name, value in _told(it)}


def _told(it: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "project", ""
    for name, column in _TEXTS.items():
        if it[column] is not None:
            yield name, it[column]
    if (model := it["model"] if it["model"] is not None else it["model_requested"]) is not None:
        yield "model", model
    yield from _not_empty(it, _ANY)
    if it["key_id"] is not None:
        yield "key_id", it["key_id"].hex()
    for name, unusual in _UNUSUAL.items():
        if int(it[name]) == unusual:
            yield name, unusual
    for name, value in labels_of(it["labels"]).items():
        yield f"label:{name}", value
        yield "label", name
    yield from _of_numbers(it)


def of_usage(it: Mapping[str, Any]) -> set[int]:
    """The terms that usage adds which came later, and those that may be lacking where all else was derived before."""
    told = (*_not_empty(it, _LATER_ANY), *_of_numbers(it))
    return {term(it["project_id"], name, value) for name, value in told}


def of_later(it: Mapping[str, Any]) -> set[int]:
    """The terms that are since later, of an interaction with at least the columns :data:`LATER_COLUMNS`."""
    told = (*_not_empty(it, _LATER_ANY), *_in_buckets(_later_numbers(it)))
    return {term(it["project_id"], name, value) for name, value in told}


def _not_empty(it: Mapping[str, Any], columns: Iterable[str]) -> Iterator[tuple[str, object]]:
    for name in columns:
        if it[name] is not None:
            yield f"any {name}", ""


def _of_numbers(it: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    numbers = {
        "input_tokens": it["input_tokens"],
        "output_tokens": it["output_tokens"],
        "total_tokens": it["total_tokens"],
        "cost": it["cost_nanos"],
        "duration": _between(it["created_at"], it["completed_at"]),
        "http_status": it["http_status"],
    }
    return _in_buckets({**numbers, **_later_numbers(it)})


def _later_numbers(it: Mapping[str, Any]) -> dict[str, int | None]:
    first_event = _between(it["created_at"], it["first_byte_at"])
    return {name: first_event if name == "first_event" else it[name] for name in LATER_NUMBERS}


def _between(start: int, end: int | None) -> int | None:
    return None if end is None else end - start


def _in_buckets(numbers: Mapping[str, int | None]) -> Iterator[tuple[str, object]]:
    for name, number in numbers.items():
        if number is not None and (number > 0 or name not in _USUALLY_ZERO):
            yield name, bucket_of(number, _LARGEST_OF.get(name, _LARGEST))


def later(filters: Filters) -> frozenset[str]:
    """Which of the terms that are since later, by what they are of, may lead to what the filters mean."""
    named = {bound.field.name for bound in _bounds(filters)}
    named |= {choice.field.name for choice in filters.choices if ANY in choice.values}
    return LATER & named


def leading(
    filters: Filters, project_id: bytes, key_ids: Collection[bytes], *, lacking: Collection[str] = ()
) -> list[int]:
    """Terms such that every interaction the filters mean has at least one of them; those of the project, if no better.

    ``key_ids`` has the ids of keys that filters may name, ``lacking`` those of :data:`LATER` that are not to be used.
    """
    choices = [
        choice for choice in filters.choices if ANY not in choice.values or choice.field.name not in lacking
    ]
    bounds = [bound for bound in _bounds(filters) if bound.field.name not in lacking]
    told = (
        _of_labels(filters.labels) or _of_choices(choices, key_ids) or _of_bounds(bounds) or _of_any(choices)
    )
    return [term(project_id, name, value) for name, value in told] or [of_project(project_id)]


def of_project(project_id: bytes) -> int:
    """The term that all interactions of a project have."""
    return term(project_id, "project")


def _bounds(filters: Filters) -> Iterator[Bounds]:
    """Those that are given, and those that say the same as a choice of any value."""
    yield from filters.bounds
    for choice in filters.choices:
        if ANY in choice.values and choice.field.name in _NUMBER_OF:
            yield Bounds(FIELDS[_NUMBER_OF[choice.field.name]], least=1)


def _of_labels(labels: Iterable[Label]) -> list[tuple[str, object]]:
    for label in labels:
        if label.values:
            return [(f"label:{label.name}", value) for value in label.values]
    for label in labels:
        return [("label", label.name)]
    return []


def _of_choices(choices: Iterable[Choice], key_ids: Collection[bytes]) -> list[tuple[str, object]]:
    by_name = {choice.field.name: choice for choice in choices}
    for name in _LEADING:
        choice = by_name.get(name)
        if choice is None:
            continue
        if ANY in choice.values:
            if name in _RARE:
                return [(f"any {name}", "")]
        elif name == "replay_of":
            continue
        elif name == "key_id":
            return [(name, key.hex()) for key in sorted(key_ids)] or [(name, "")]
        elif name not in _UNUSUAL or choice.values == (_UNUSUAL[name],):
            return [(name, value) for value in choice.values]
    return []


def _of_any(choices: Iterable[Choice]) -> list[tuple[str, object]]:
    """What is better than nothing: it may mean nearly all."""
    for choice in choices:
        if ANY in choice.values and choice.field.name in _ANY:
            return [(f"any {choice.field.name}", "")]
    return []


def _of_bounds(bounds: Iterable[Bounds]) -> list[tuple[str, object]]:
    """Of several bounds the one that covers fewest buckets."""
    found: list[tuple[str, object]] = []
    for bound in bounds:
        name = bound.field.name
        if name not in _NUMBERS and name not in LATER_NUMBERS:
            continue
        largest = _LARGEST_OF.get(name, _LARGEST)
        first = bucket_of(max(0, bound.least or 0), largest)
        last = bucket_of(largest if bound.most is None else max(0, bound.most), largest)
        if first == 0 and name in _USUALLY_ZERO:
            continue
        if not found or last - first < len(found) - 1:
            found = [(name, bucket) for bucket in range(first, last + 1)]
    return found
