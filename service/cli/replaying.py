"""`interactions replay`: stored requests sent again, one or a whole set, with a report of what came of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from service.cli.api import INTERRUPTED, Api, Failed, Json, Part, connected, path_part
from service.cli.choosing import chosen
from service.cli.listing import listed
from service.cli.printing import is_terminal, plain, print_diff, print_json, print_table
from service.cli.report import COLUMNS, NUMBERS, Cut, Outcome, as_html, as_json, row_of, summary
from service.cli.target import Target, targeted

_REPORTS: Final = ("table", "json", "html")
_INTEGER: Final = re.compile(r"\s*-?[0-9]+\s*")
#: Characters of a change that are told of one that cannot be made.
_SHOWN: Final = 80


@click.command()
@targeted
@chosen()
@click.argument("interaction_ids", nargs=-1)
@click.option(
    "--with",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A change, such as temperature=0.",
)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="At most so many.",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="At a time.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Replays begun in a second, at most."
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 7200),
    default=600,
    show_default=True,
    help="Seconds for one in the background.",
)
@click.option(
    "--report",
    type=click.Choice(_REPORTS),
    default="table",
    show_default=True,
    help="Its form.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to a file."
)
@click.option("--diff", is_flag=True, help="Show how texts and tool calls differ.")
def replay(
    target: Target,
    filters: list[tuple[str, str]],
    interaction_ids: tuple[str, ...],
    changes: tuple[str, ...],
    limit: int,
    concurrency: int,
    rate: float | None,
    wait: float,
    report: str,
    output: Path | None,
    diff: bool,
) -> None:
    """Send stored requests again: those that are named, or those that the filters select.

    Each becomes a new interaction with the history that its original had. Filters select no replays, but where
    --replay-of is one of them. Exits with 1 when one could not be sent. Ctrl-C sends no more, and tells what came of
    those that were sent.
    """
    if not interaction_ids and not filters:
        raise click.UsageError("Name interactions, or select them by filters.")
    if interaction_ids and filters:
        raise click.UsageError("Name interactions or select them by filters, not both.")
    for name in interaction_ids:
        path_part(name)
    body = {**_changes(changes), "wait": wait}
    if output is not None:
        # Before anything is sent: what came of it could not be told.
        _check_folder(output)
    chosen_ids = list(interaction_ids)
    outcomes = asyncio.run(_replay(target, filters, chosen_ids, body, limit, concurrency, rate))
    _tell(outcomes, report, output, diff=diff)
    if any(outcome.cut for outcome in outcomes):
        raise click.exceptions.Exit(INTERRUPTED)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(1)


def _changes(given: Sequence[str]) -> Json:
    """Changes by name; raises :class:`click.BadParameter` for one that cannot be made."""
    changes: Json = {}
    for change in given:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise _refused(change, "is not NAME=VALUE")
        *outer, last = name.split(".")
        place = changes
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise _refused(change, f"sets a member of {part!r}, which another --with makes no object")
        place[last] = _value(change, value)
    return changes


def _value(change: str, text: str) -> Any:
    """A value that is JSON is what it says, any other is a text; raises :class:`click.BadParameter`."""
    import json

    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if value is text and _INTEGER.fullmatch(text):
            raise _refused(change, "has too many digits; put it into quotation marks to send a text")
        json.dumps(value, allow_nan=False)
    except RecursionError:
        raise _refused(change, "is nested too deeply") from None
    except ValueError:
        raise _refused(
            change, "has a number that JSON has not; put it into quotation marks to send a text"
        ) from None
    try:
        json.dumps([change, value], ensure_ascii=False).encode()
    except ValueError:
        raise _refused(change, "is no UTF-8") from None
    return value


def _refused(change: str, why: str) -> click.BadParameter:
    shown = change if len(change) <= _SHOWN else f"{change[:_SHOWN]}…"
    return click.BadParameter(f"{shown!r} {why}.", param_hint="--with")


async def _replay(
    target: Target,
    filters: Sequence[tuple[str, str]],
    ids: list[str],
    body: Mapping[str, Any],
    limit: int,
    concurrency: int,
    rate: float | None,
) -> list[Outcome]:
    async with connected(target, Part.ASKING) as api:
        if not ids:
            # Replays carry the labels of their originals: each run would send those of all runs before.
            replays = any(name == "replay_of" for name, _ in filters)
            found = await listed(api, [*filters, ("order", "asc")], limit + 1, replays=replays)
            ids = [one["id"] for one in found[:limit]]
            if len(found) > limit:
                click.echo(
                    f"More than {limit} are selected, and the oldest {limit} are sent; --limit takes more.",
                    err=True,
                )
        with _progress(len(ids)) as advance:
            return await _all(api, ids, body, concurrency, rate, advance)


async def _all(
    api: Api,
    ids: Sequence[str],
    body: Mapping[str, Any],
    concurrency: int,
    rate: float | None,
    advance: Callable[[], None],
) -> list[Outcome]:
    """Replay them, so many at a time and begun in a second; what became of each, in their order.

    When this is cancelled no more are sent, and what is known by then is told.
    """
    places = asyncio.Semaphore(concurrency)
    pace = _Pace(rate)

    async def one(name: str) -> Outcome:
        async with places:
            await pace.turn()
            try:
                told = await api.call("POST", f"api/interactions/{path_part(name)}/replay", body=dict(body))
            except Failed as error:
                return Outcome(name, None, error.message)
            except asyncio.CancelledError:
                return _cut(name, Cut.MEANWHILE)
            finally:
                advance()
        return Outcome(name, told, None)

    tasks = [asyncio.create_task(one(name)) for name in ids]
    try:
        return await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        # Whoever interrupts once more waits for nothing, not even for a service in this process to stop.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # All of them have ended by now, in one way or the other.
        return [
            _cut(name, Cut.BEFORE) if task.cancelled() else task.result()
            for name, task in zip(ids, tasks, strict=True)
        ]


def _cut(name: str, cut: Cut) -> Outcome:
    if cut is Cut.BEFORE:
        return Outcome(name, None, "not sent: the command was interrupted before", cut)
    remedy = f"interactions logs --replay-of {name} lists what was made of it"
    return Outcome(name, None, f"the command was interrupted before the answer came; {remedy}", cut)


class _Pace:
    """Turns of which no more than ``rate`` begin in a second, also after a time in which none was taken."""

    def __init__(self, rate: float | None) -> None:
        self._pause = 0.0 if rate is None else 1 / rate
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = asyncio.get_running_loop().time()
        at = max(self._next, now)
        self._next = at + self._pause
        if at > now:
            await asyncio.sleep(at - now)


def _tell(outcomes: Sequence[Outcome], report: str, output: Path | None, *, diff: bool) -> None:
    if report == "html" or output is not None:
        text = as_html(outcomes) if report == "html" else as_json(outcomes) if report == "json" else None
        if text is None:
            cells = [map(plain, row_of(outcome)) for outcome in outcomes]
            lines = ["\t".join(COLUMNS), *map("\t".join, cells)]
            text = "\n".join(lines) + "\n"
        if output is None:
            click.echo(text, nl=False)
        else:
            try:
                output.write_text(text, encoding="utf-8")
            except OSError as error:
                raise _unwritable(output, error.strerror or str(error)) from error
            click.echo(f"{output}: {summary(outcomes)}", err=True)
        return
    if report == "json":
        for outcome in outcomes:
            print_json(outcome.told_as_json())
        return
    # On a terminal messages have no place between the columns, and stand below.
    rows = [row_of(outcome, brief=is_terminal()) for outcome in outcomes]
    print_table(COLUMNS, rows, numbers=NUMBERS)
    for outcome in outcomes:
        if outcome.cut is Cut.BEFORE:
            continue
        if outcome.failure is not None:
            click.echo(f"{outcome.original}: {plain(outcome.failure)}", err=True)
        for part in (outcome.diff, outcome.calls):
            if diff and part:
                click.echo()
                print_diff(part)
    click.echo(summary(outcomes), err=True)


def _check_folder(output: Path) -> None:
    if not output.parent.is_dir():
        raise _unwritable(output, f"there is no folder {output.parent}")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise _unwritable(output, "Permission denied")


def _unwritable(output: Path, why: str) -> Failed:
    return Failed(f"{output} cannot be written ({why})")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Tell on a terminal's standard error how many are done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replayed"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
