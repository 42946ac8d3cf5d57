"""The report of replays: what came of each, as rows, as JSON and as a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from service.cli.api import Json
from service.cli.printing import dollars, visible

COLUMNS: Final = ("original", "replay", "status", "text", "tools", "tokens", "cost", "latency", "error")
NUMBERS: Final = ("tokens", "cost", "latency")
_STYLE: Final = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; } th, td { padding: .3em .8em; text-align: left; border-bottom: 1px solid #ddd; }
td.changed, .error { color: #b00020; } pre { background: #f6f6f6; padding: 1em; overflow-x: auto; }
.added { color: #0a7d2c; } .removed { color: #b00020; }
"""


class Cut(StrEnum):
    """Where one stood when the command was interrupted."""

    BEFORE = "not sent"
    #: It was sent, and may have been made and billed.
    MEANWHILE = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one: the service's answer, or why there is none."""

    original: str
    told: Json | None
    error: str | None
    cut: Cut | None = None

    @property
    def comparison(self) -> Json:
        """How both compare; empty when it was not sent."""
        return {} if self.told is None else self.told["comparison"]

    @property
    def replayed(self) -> str | None:
        """The id of the new interaction."""
        return None if self.told is None else self.told["interaction"]["id"]

    @property
    def diff(self) -> str:
        """How the texts differ."""
        diff: str = self.comparison.get("text", {}).get("diff", "")
        return diff

    @property
    def refusal(self) -> Json | None:
        """The code and the message of the error that the replay ended with."""
        refusal: Json | None = self.comparison.get("errors", {}).get("replay")
        return refusal

    @property
    def failure(self) -> str | None:
        """Why there is no answer, or with which error the replay ended."""
        if self.refusal is None:
            return self.error
        return f"{self.refusal['code']}: {self.refusal['message']}"

    @property
    def calls(self) -> str:
        """The tool calls of both where they differ, as a diff."""
        pair = self.comparison.get("tool_calls", {"same": True})
        if pair["same"]:
            return ""
        heads = (f"--- {self.original} tool calls", f"+++ {self.replayed} tool calls")
        return "\n".join([*heads, *_calls("-", pair["original"]), *_calls("+", pair["replay"])])

    def told_as_json(self) -> Json:
        """Ids, comparison and error."""
        return {
            "original": self.original,
            "replay": self.replayed,
            "comparison": self.comparison or None,
            "error": self.error,
        }


def _calls(sign: str, calls: Sequence[Json]) -> list[str]:
    import json

    told = [f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}" for call in calls]
    return [sign + call for call in told or ["no calls"]]


def row_of(outcome: Outcome, *, brief: bool = False) -> list[str]:
    """The cells of :data:`COLUMNS`; ``brief`` is without the messages of errors."""
    told = outcome.comparison
    if not told:
        error = "" if brief else outcome.error or ""
        return [outcome.original, "-", outcome.cut or "not sent", "-", "-", "-", "-", "-", error]
    refusal = outcome.refusal
    return [
        outcome.original,
        outcome.replayed or "-",
        _change(told["status"]),
        _sameness(told["text"]),
        _sameness(told["tool_calls"]),
        _signed(told["usage"]["difference"]["total_tokens"]),
        _cost(told["cost"]),
        _signed(told["latency"]["difference"]["total_ms"], " ms"),
        refusal["code"] if brief and refusal is not None else outcome.failure or "",
    ]


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line about all of them."""
    sent = [outcome for outcome in outcomes if outcome.told is not None]
    texts = sum(outcome.comparison["text"]["same"] for outcome in sent)
    statuses = sum(outcome.comparison["status"]["same"] for outcome in sent)
    failed = sum(outcome.comparison["status"]["replay"] == "failed" for outcome in sent)
    refused = sum(outcome.error is not None and outcome.cut is None for outcome in outcomes)
    return (
        f"{len(outcomes)} replays: {refused} could not be sent, {failed} failed, {statuses} ended with the same "
        f"status, {texts} with the same text{_interruption(outcomes)}"
    )


def _interruption(outcomes: Sequence[Outcome]) -> str:
    before, meanwhile = (sum(outcome.cut is cut for outcome in outcomes) for cut in Cut)
    if not before and not meanwhile:
        return ""
    return f"; interrupted, {before} were not sent, and what came of {meanwhile} is unknown"


def as_json(outcomes: Sequence[Outcome]) -> str:
    """A document with everything."""
    import json

    document = {"summary": summary(outcomes), "replays": [outcome.told_as_json() for outcome in outcomes]}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def as_html(outcomes: Sequence[Outcome]) -> str:
    """A page that needs nothing else."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "\n".join(_html_row(number, outcome) for number, outcome in enumerate(outcomes, 1))
    details = "\n".join(_html_detail(number, outcome) for number, outcome in enumerate(outcomes, 1))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Replays</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Replays</h1><p>{html.escape(summary(outcomes))}</p>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n{details}\n</body></html>\n"
    )


def _html_row(number: int, outcome: Outcome) -> str:
    first, *rest = [html.escape(cell) for cell in row_of(outcome)]
    cells = [f'<a href="#r{number}">{first}</a>', *rest]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _html_detail(number: int, outcome: Outcome) -> str:
    title = f'<h2 id="r{number}">{html.escape(outcome.original)}</h2>'
    failure = outcome.failure
    why = "" if failure is None else f'<p class="error">{html.escape(visible(failure))}</p>'
    if not outcome.comparison:
        return title + why
    texts = (
        "<p>The texts are the same.</p>" if outcome.comparison["text"]["same"] else _html_diff(outcome.diff)
    )
    calls = _html_diff(outcome.calls) if outcome.calls else ""
    return title + why + texts + calls


def _html_diff(diff: str) -> str:
    lines = "\n".join(map(_html_line, diff.split("\n")))
    return f"<pre>{lines}</pre>"


def _html_line(line: str) -> str:
    kind = {"+": "added", "-": "removed"}.get(line[:1])
    text = html.escape(visible(line))
    return text if kind is None else f'<span class="{kind}">{text}</span>'


def _change(pair: Json) -> str:
    return pair["replay"] if pair["same"] else f"{pair['original']} -> {pair['replay']}"


def _sameness(pair: Json) -> str:
    return "same" if pair["same"] else "differs"


def _signed(value: Any, unit: str = "") -> str:
    return "-" if value is None else f"{value:+,}{unit}"


def _cost(pair: Json) -> str:
    difference = pair["difference"]
    if difference is None:
        return "-"
    return ("-" if difference < 0 else "+") + dollars(abs(difference))
