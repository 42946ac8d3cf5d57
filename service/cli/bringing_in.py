"""`interactions import`: files that an export has written, taken in."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import click

from service.cli.api import Failed, Part, connected
from service.cli.manifests import MANIFEST, Checked
from service.cli.progress import progress
from service.cli.target import Target, targeted

#: Lines and bytes that are sent at once.
_LINES_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024


@click.command("import")
@targeted
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, allow_dash=True))
def import_(target: Target, files: tuple[str, ...]) -> None:
    """Take in files of JSON lines that `export` has written; `-` is standard input.

    What is there already stays as it is, but for what came in while it still ran elsewhere, when its end comes in. So a
    file can be taken in any number of times. A database that is not there yet is made, or migrated.
    """
    told = Counter[str]()
    for name in files:
        try:
            told += _taken_in(target, name)
        except OSError as error:
            raise Failed(f"{name} cannot be read ({error.strerror or error})") from error
    click.echo(f"{told['imported']} imported, {told['known']} there already", err=True)
    if told["left_out"]:
        click.echo(
            f"{told['left_out']} left out: what they follow belongs to another project, or follows them",
            err=True,
        )


def _taken_in(target: Target, name: str) -> Counter[str]:
    """How many interactions became what, by the names of the service's answer; raises :class:`Failed`."""
    told = Counter[str]()
    checked = None
    size = None
    if name == "-":
        checked = Checked("standard input")
    else:
        _check(Path(name))
        size = Path(name).stat().st_size
    try:
        with click.open_file(name, "rb") as file, progress("imported", size) as advance:
            asyncio.run(_import(target, file, checked, told, advance))
        if checked is not None:
            checked.end()
    except Failed as error:
        if not told.total():
            raise
        before = f"{told.total()} interactions that came before are taken in"
        raise Failed(f"{error.message.removesuffix('.')}; {before}") from error
    return told


def _check(path: Path) -> None:
    """Look at a whole file before anything of it is taken in; raises :class:`Failed`."""
    checked = Checked(str(path), path)
    with path.open("rb") as file:
        for line in file:
            checked.take(line)
    if checked.has_manifest:
        checked.end()
    else:
        click.echo(
            f"warning: {path} has no manifest; what it has is taken in, and it may not be whole", err=True
        )


async def _import(
    target: Target,
    file: IO[Any],
    checked: Checked | None,
    told: Counter[str],
    advance: Callable[[int], None],
) -> None:
    async with connected(target, Part.FILLING) as api:
        for first, batch in _batches(file, checked):
            place = [("first_line", str(first))]
            told += Counter(await api.call("POST", "api/import", place, batch))
            advance(len(batch))
        if target.url is None and sys.stderr.isatty():
            click.echo("deriving what lists, searches and reports are made from", err=True)


def _batches(file: IO[Any], checked: Checked | None) -> Iterator[tuple[int, bytes]]:
    """All lines, some at a time, each with the number of the first; manifests, which nobody takes in, count as well.

    The last one is left out where an export was cut off in it.
    """
    lines: list[bytes] = []
    first, size = 1, 0
    for number, line in enumerate(file, 1):
        if checked is not None:
            checked.take(line)
        if not line.endswith(b"\n") and not line.startswith(MANIFEST) and not _is_whole(line):
            break
        if lines and (len(lines) >= _LINES_AT_ONCE or size + len(line) > _BYTES_AT_ONCE):
            yield first, b"".join(lines)
            lines, first, size = [], number, 0
        lines.append(line)
        size += len(line)
    if lines:
        yield first, b"".join(lines)


def _is_whole(line: bytes) -> bool:
    import orjson

    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True
