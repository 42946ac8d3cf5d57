"""`interactions import`: files that an export has written, taken in."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from service.cli.api import Api, Failed, Part, Refused, connected
from service.cli.manifests import MANIFEST, Checked
from service.cli.progress import progress
from service.cli.target import Target, targeted

if TYPE_CHECKING:
    from aiohttp.web import Application

#: Lines and bytes that are sent at once.
_LINES_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024
_TOO_LARGE: Final = 413


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
        left = api.served is not None and await _is_left_to_a_service(api.served)
        sending = _Sending(api, told, advance)
        for first, lines in _batches(file, checked):
            await sending.send(first, lines)
        if left:
            click.echo("warning: what came in is found when the service of this database has run", err=True)
        elif api.served is not None:
            await _derive(api.served)


class _Sending:
    """Sends lines, and less of them at once to a service that takes no more."""

    def __init__(self, api: Api, told: Counter[str], advance: Callable[[int], None]) -> None:
        self._api = api
        self._told = told
        self._advance = advance
        self._most = _BYTES_AT_ONCE

    async def send(self, first: int, lines: Sequence[bytes]) -> None:
        """Send some lines, of which the first has this number; raises :class:`Failed`."""
        size = sum(map(len, lines))
        if len(lines) == 1 or size <= self._most:
            try:
                await self._post(first, lines)
            except Refused as error:
                if error.status != _TOO_LARGE:
                    raise
                if len(lines) == 1:
                    raise _too_long(first, size) from error
                self._most = size // 2
            else:
                self._advance(size)
                return
        middle = len(lines) // 2
        await self.send(first, lines[:middle])
        await self.send(first + middle, lines[middle:])

    async def _post(self, first: int, lines: Sequence[bytes]) -> None:
        place = [("first_line", str(first))]
        # Not +=, which would make another counter: what is told of is the caller's.
        self._told.update(await self._api.call("POST", "api/import", place, b"".join(lines)))


def _too_long(number: int, size: int) -> Failed:
    return Failed(
        f"Line {number}: it has {size} bytes, and the service does not take so many at once; raise "
        "general_settings.max_body_bytes there, or import into its database by --database-url"
    )


async def _is_left_to_a_service(served: Application) -> bool:
    """Whether something waits that only a service can price, which has prices that are not known here."""
    from service.api.keys import REPORTS
    from service.audit.backlog import has_strangers
    from service.errors import ServiceError
    from service.shared import DEPLOYMENTS

    known = [deployment.id for deployment in served[DEPLOYMENTS]]
    try:
        async with served[REPORTS].reading() as reading:
            return await has_strangers(reading, known)
    except ServiceError as error:
        raise Failed(error.message) from error


async def _derive(served: Application) -> None:
    """Make what searches and reports are made from, unless a service that runs does it; raises :class:`Failed`."""
    from service.errors import ServiceError
    from service.shared import INDEXER
    from service.store.backend import RowRefused, StoreUnavailable

    if sys.stderr.isatty():
        click.echo("deriving what searches and reports are made from", err=True)
    try:
        await served[INDEXER].catch_up()
    except (ServiceError, StoreUnavailable, RowRefused) as error:
        raise Failed(
            f"what came in is not found until a service has run on this database ({error})"
        ) from error


def _batches(file: IO[Any], checked: Checked | None) -> Iterator[tuple[int, list[bytes]]]:
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
            yield first, lines
            lines, first, size = [], number, 0
        lines.append(line)
        size += len(line)
    if lines:
        yield first, lines


def _is_whole(line: bytes) -> bool:
    import orjson

    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True
