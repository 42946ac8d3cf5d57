"""What commands print: tables, trees and colours on a terminal, plain text with tabs for what comes behind a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console

STYLES: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "incomplete": "yellow",
    "budget_exceeded": "red",
    "in_progress": "cyan",
    "queued": "cyan",
    "requires_action": "blue",
}

#: Tabs and ends of lines, and everything else that is no sign (C0, DEL and C1).
_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
#: The same of C0 and DEL as pictures, of the others by their numbers; a tab is what it is.
_SIGNS: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if code != 0x09},
    0x7F: "\u2421",
    **{code: f"<U+{code:04X}>" for code in (*range(0x80, 0xA0), 0x2028, 0x2029)},
}
#: Columns that are never broken, however narrow the terminal is.
_WHOLE: Final = frozenset({"created", "id", "status", "original", "replay"})


def console() -> Console:
    """Standard output; wide and without colours when it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def is_terminal() -> bool:
    """Whether somebody looks at standard output."""
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """One line of JSON."""
    from service.wire import codec

    click.echo(codec.dumps(value).decode())


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """A table; the columns that are ``numbers`` to the right. Statuses have their colours."""
    if not is_terminal():
        for row in (columns, *rows):
            click.echo("\t".join(plain(cell) for cell in row))
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, pad_edge=False)
    for place, name in enumerate(columns):
        justify: Literal["left", "right"] = "right" if name in numbers else "left"
        whole = max((cell_len(plain(row[place])) for row in rows), default=0) if name in _WHOLE else None
        table.add_column(
            name,
            justify=justify,
            no_wrap=name in _WHOLE or name in numbers,
            overflow="ellipsis",
            min_width=whole,
        )
    for row in rows:
        table.add_row(*(Text(plain(cell), style=STYLES.get(cell, "")) for cell in row))
    console().print(table)


def print_diff(diff: str) -> None:
    """A unified diff, what was and what is in colours."""
    for line in diff.split("\n"):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.secho(visible(line), fg=colour)


def visible(line: str) -> str:
    """A line of a text with signs for what has none, such as ␍: lines that differ look different."""
    return line.translate(_SIGNS)


def plain(cell: str) -> str:
    """A text in one line and one column, without what would steer a terminal: callers say what stands in it."""
    return cell.translate(_CONTROLS)


def number(value: float | None, digits: int = 0) -> str:
    """A number with separators on a terminal; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if is_terminal() else f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
    """How long something took."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def length(time: float) -> str:
    """A time that was set, as it can be set: in days, hours or minutes where it is a whole number of them."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if time and time % size == 0:
            return f"{time / size:.0f}{unit}"
    return f"{time:.15g}s"


def dollars(value: float | None) -> str:
    """A cost; ``-`` for one that is not known."""
    return "-" if value is None else f"${value:.6f}".rstrip("0").rstrip(".")


def shortened(text: str, most: int) -> str:
    """The beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
