"""What usage is: sums over interactions, of which two can be added. Roll-ups hold them, reports add them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from service.audit.histogram import Histogram
from service.audit.summaries import TOKENS
from service.store.records import USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL

#: States of usage in which there is some; of a run that was cut off, what it had used until then.
TOLD: Final = (USAGE_FINAL, USAGE_PARTIAL)
#: The counters of a roll-up, in the order of its columns.
COUNTERS: Final = ("requests", "errors", "unmeasured", "unpriced", *TOKENS, "cost_nanos")
#: What upstream tells by modality (contract 3.5), and what it counts of tools that search.
_BY_MODALITY: Final = {
    "input_tokens_by_modality": "input",
    "output_tokens_by_modality": "output",
    "cached_tokens_by_modality": "cached",
    "tool_use_tokens_by_modality": "tool_use",
}
_LARGEST: Final = 2**53
#: The largest number of a column.
_MOST: Final = 2**63 - 1
_MOST_MODALITIES: Final = 16

#: Tokens by kind (``input``, ``output``, ``cached``, ``tool_use``, and ``grounding`` for searches) and modality.
Modalities = dict[str, dict[str, int]]


def modalities_of(usage: Mapping[str, Any]) -> Modalities:
    """What an upstream's ``usage`` says by modality; what makes no sense of it is left out."""
    found: Modalities = {}
    for member, kind in _BY_MODALITY.items():
        found |= _kind(kind, usage.get(member), "modality", "tokens")
    return found | _kind("grounding", usage.get("grounding_tool_count"), "type", "count")


def _kind(kind: str, listed: Any, name: str, count: str) -> Modalities:
    counts: dict[str, int] = {}
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict):
            continue
        told, number = item.get(name), item.get(count)
        if isinstance(told, str) and isinstance(number, int) and 0 < number < _LARGEST and told.isprintable():
            counts[told[:32].lower()] = counts.get(told[:32].lower(), 0) + number
    kept = dict(sorted(counts.items())[:_MOST_MODALITIES])
    return {kind: kept} if kept else {}


@dataclass(slots=True)
class Measures:
    """Sums over any number of interactions."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    modalities: Modalities = field(default_factory=dict)
    durations: Histogram = field(default_factory=Histogram)
    first_events: Histogram = field(default_factory=Histogram)

    def add(self, other: Measures, times: int = 1) -> None:
        """Add another's sums to these; -1 times takes them away again, in whatever order."""
        counts = self.counts
        for name, count in other.counts.items():
            counts[name] += times * count
        self._add_modalities(other.modalities, times)
        self.durations.merge(other.durations, times)
        self.first_events.merge(other.first_events, times)

    def _add_modalities(self, others: Modalities, times: int = 1) -> None:
        for kind, counts in others.items():
            mine = self.modalities.setdefault(kind, {})
            for modality, count in counts.items():
                mine[modality] = mine.get(modality, 0) + times * count
                if not mine[modality]:
                    del mine[modality]
            if not mine:
                del self.modalities[kind]

    def columns(self) -> dict[str, Any]:
        """As the columns of a roll-up."""
        return {
            # Upstream and imports may tell of anything; what is too much for a column stops nothing else.
            **{name: min(count, _MOST) for name, count in self.counts.items()},
            "modalities": orjson.dumps(self.modalities).decode() if self.modalities else "",
            "durations": self.durations.to_bytes(),
            "first_events": self.first_events.to_bytes(),
        }

    def add_columns(self, row: Sequence[Any]) -> None:
        """Add the columns of a roll-up: :data:`COUNTERS`, then ``modalities``, ``durations``, ``first_events``."""
        *sums, modalities, durations, first_events = row
        counts = self.counts
        for name, count in zip(COUNTERS, sums, strict=True):
            if count:
                counts[name] += count
        if modalities:
            self._add_modalities(orjson.loads(modalities))
        self.durations.merge(Histogram.from_bytes(durations))
        self.first_events.merge(Histogram.from_bytes(first_events))


def of_outcome(it: Mapping[str, Any], modalities: Modalities) -> Measures:
    """What one interaction that has ended adds, its usage included; ``it`` has the columns of its row."""
    measures = of_usage(it, modalities)
    counts = measures.counts
    counts["requests"] = 1
    counts["errors"] = int(it["status"] == "failed")
    counts["unmeasured"] = int(it["usage_state"] == USAGE_MISSING)
    if it["completed_at"] is not None:
        measures.durations.add(it["completed_at"] - it["created_at"])
    if it["first_byte_at"] is not None:
        measures.first_events.add(it["first_byte_at"] - it["created_at"])
    return measures


def of_usage(it: Mapping[str, Any], modalities: Modalities) -> Measures:
    """What the usage of one interaction adds, and nothing else of it."""
    measures = Measures(modalities=modalities)
    if it["usage_state"] in TOLD:
        for name in TOKENS:
            measures.counts[name] = it[name] or 0
        measures.counts["unpriced"] = int(it["cost_nanos"] is None)
        measures.counts["cost_nanos"] = it["cost_nanos"] or 0
    return measures


def of_late_usage(it: Mapping[str, Any], modalities: Modalities) -> Measures:
    """What usage adds that came when its interaction had been counted without."""
    measures = of_usage(it, modalities)
    measures.counts["unmeasured"] = -1
    return measures
