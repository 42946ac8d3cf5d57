"""Reports as tables for people."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text


def figures_table(report: dict[str, Any]) -> Table:
    """The figures of a reconciliation, a line for each interval and one for all."""
    intervals = report["intervals"]
    statuses = sorted({status for figures in intervals for status in figures["outcomes"]})
    kinds = list(intervals[0]["usage"]) if intervals else []
    table = _table("interval (UTC)", "accepted", "attempts", *statuses, "open")
    for name in (*(f"usage {kind}" for kind in kinds), "events"):
        table.add_column(name, justify="right")
    total: Counter[str] = Counter()
    for figures in intervals:
        counts = Counter(
            {name: figures[name] for name in ("accepted", "attempts", "open", "events")}
            | {f"outcome {status}": number for status, number in figures["outcomes"].items()}
            | {f"usage {kind}": number for kind, number in figures["usage"].items()}
        )
        total.update(counts)
        moment = datetime.fromtimestamp(figures["start"], UTC)
        table.add_row(moment.strftime("%Y-%m-%d %H:%M"), *_counts(counts, statuses, kinds))
    table.add_section()
    table.add_row("all", *_counts(total, statuses, kinds))
    return table


def mismatches_table(report: dict[str, Any]) -> Table:
    """What does not fit."""
    table = _table("interaction", "reason", "detail")
    for found in report["mismatches"]:
        # As text: what a client named is not to be taken for markup.
        table.add_row(*(Text(found[name]) for name in ("id", "reason", "detail")))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(
            name, justify="left" if first == "interaction" else "right", no_wrap=name == "reason"
        )
    return table


def _counts(counts: Counter[str], statuses: list[str], kinds: list[str]) -> list[str]:
    names = ["accepted", "attempts", *(f"outcome {status}" for status in statuses), "open"]
    return [str(counts[name]) for name in (*names, *(f"usage {kind}" for kind in kinds), "events")]
