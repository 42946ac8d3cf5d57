"""`interactions export` and `interactions import`: interactions as files, whole, and back."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from hashlib import sha256
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import click

from service.cli.api import Failed, Json, Parameters, Part, connected
from service.cli.choosing import chosen
from service.cli.target import Target, targeted

_FORMATS: Final = ("jsonl", "csv", "parquet")
#: Lines and bytes that are sent at once.
_LINES_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024
_MANIFEST: Final = b'{"manifest":'
_MIB: Final = 1024 * 1024


@click.command()
@targeted
@chosen()
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="jsonl", show_default=True, help="How."
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The file; else standard output."
)
@click.option("--resume", is_flag=True, help="Go on with a file of JSON lines that was not finished.")
@click.option("--no-media", is_flag=True, help="Leave out the bytes of kept media.")
def export(
    target: Target,
    filters: list[tuple[str, str]],
    form: str,
    output: Path | None,
    resume: bool,
    no_media: bool,
) -> None:
    """Export everything that the filters select, oldest first.

    Beside a file, FILE.manifest.json says how many interactions and bytes it has, and their digest. A file that is
    there is replaced when the export is whole.
    """
    if resume and (output is None or form != "jsonl"):
        raise click.UsageError("--resume goes on with a file of JSON lines: name it by --output.")
    if output is not None and output.exists() and not output.is_file():
        raise click.UsageError(f"{output} is no file; leave out --output for standard output.")
    if form == "parquet" and output is not None and find_spec("pyarrow") is None:
        raise click.UsageError("Parquet needs pip install 'interactions-service[parquet]'.")
    parameters = [*filters, ("format", form), *([("media", "false")] if no_media else [])]
    if output is None:
        asyncio.run(_to_standard_output(target, parameters))
    else:
        manifest = _to_file(target, parameters, output, resume=resume)
        click.echo(f"{output}: {manifest['count']} interactions, sha256 {manifest['sha256']}", err=True)


async def _to_standard_output(target: Target, parameters: Parameters) -> None:
    async with connected(target) as api, aclosing(api.pieces("api/export", parameters)) as pieces:
        async for piece in pieces:
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _to_file(target: Target, parameters: Parameters, output: Path, *, resume: bool) -> Json:
    """Export into a file, which stays as it was until the export is whole; returns the manifest.

    Meanwhile the lines are in FILE.part, with which ``resume`` goes on; without one, with FILE itself.
    Raises :class:`Failed`.
    """
    import orjson

    form = dict(parameters)["format"]
    part = output.with_name(f"{output.name}.part")
    if resume and not part.exists() and output.exists():
        part = output
    try:
        kept = _Kept.of(part) if resume and part.exists() else _Kept()
        more = [] if kept.last is None else [("cursor", kept.last)]
        try:
            with _progress("exported", None) as advance:
                asyncio.run(_receive(target, [*parameters, *more], part, kept.size, advance))
            count, digest = _checked(part, kept.size) if form == "jsonl" else _measured(part, form)
        except BaseException:
            if part != output and (form != "jsonl" or _is_empty(part)):
                part.unlink(missing_ok=True)
            raise
        part.replace(output)
        manifest = {
            "file": output.name,
            "format": form,
            "bytes": output.stat().st_size,
            "count": count,
            "sha256": digest,
        }
        beside = output.with_name(f"{output.name}.manifest.json")
        beside.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise Failed(f"{output} cannot be written ({error.strerror or error})") from error
    return manifest


async def _receive(
    target: Target, parameters: Parameters, path: Path, start: int, advance: Callable[[int], None]
) -> None:
    """Write an export behind the first ``start`` bytes of a file, which is not touched before the service answers."""
    async with connected(target) as api, aclosing(api.pieces("api/export", parameters)) as pieces:
        piece: bytes | None = await anext(pieces, b"")
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while piece is not None:
                file.write(piece)
                advance(len(piece))
                piece = await anext(pieces, None)


def _is_empty(path: Path) -> bool:
    return path.exists() and path.stat().st_size == 0


class _Kept:
    """What an unfinished file has: whole lines up to ``size``, the last of them that of the interaction ``last``."""

    def __init__(self, size: int = 0, last: str | None = None) -> None:
        self.size = size
        self.last = last

    @classmethod
    def of(cls, path: Path) -> _Kept:
        import orjson

        kept = cls()
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or line.startswith(_MANIFEST):
                    break
                try:
                    kept.last = orjson.loads(line)["id"]
                except (ValueError, KeyError, TypeError) as error:
                    raise Failed(f"{path} is no export of JSON lines; leave out --resume") from error
                kept.size += len(line)
        return kept


def _checked(path: Path, start: int = 0) -> tuple[int, str]:
    """Count and digest of the lines of a file; what is behind ``start`` has to be what its manifest says.

    A manifest of a part is replaced by one of the whole. Raises :class:`Failed`.
    """
    import orjson

    whole, part = sha256(), sha256()
    count = added = place = 0
    manifest = None
    with path.open("rb") as file:
        for line in file:
            if line.startswith(_MANIFEST):
                manifest = _manifest_of(line, str(path))
                break
            whole.update(line)
            count += 1
            if place >= start:
                part.update(line)
                added += 1
            place += len(line)
    if manifest is None:
        raise Failed(f"{path} has no manifest: the export was cut off; go on with --resume")
    if (manifest.get("count"), manifest.get("sha256")) != (added, part.hexdigest()):
        raise Failed(f"{path} is not what its manifest says: it was damaged; export it again")
    if start:
        told = {
            "count": count,
            "sha256": whole.hexdigest(),
            "last": manifest.get("last") or manifest.get("after"),
        }
        with path.open("r+b") as file:
            file.seek(place)
            file.truncate()
            file.write(orjson.dumps({"manifest": told}, option=orjson.OPT_APPEND_NEWLINE))
    return count, whole.hexdigest()


def _measured(path: Path, form: str) -> tuple[int, str]:
    """Count and digest of a table."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(_MIB):
            digest.update(piece)
    return _counted(path, form), digest.hexdigest()


def _counted(path: Path, form: str) -> int:
    if form == "parquet":
        from pyarrow import parquet

        rows: int = parquet.ParquetFile(path).metadata.num_rows
        return rows
    import csv

    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


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


class _Checked:
    """Lines that are what the manifests behind them say; ``source`` is what they are called in messages.

    Those of an export that goes on may follow others, of one that was cut off and has no manifest. In a file at
    ``path`` they are read once more then; where they cannot be, they are only counted.
    """

    def __init__(self, source: str, path: Path | None = None) -> None:
        self._source = source
        self._path = path
        self._digest = sha256()
        self._count = 0
        self._start = self._place = 0
        self.has_manifest = False

    def take(self, line: bytes) -> None:
        """The next line; raises :class:`Failed` at a manifest that is wrong."""
        self._place += len(line)
        if not line.startswith(_MANIFEST):
            self._digest.update(line)
            self._count += 1
            return
        manifest = _manifest_of(line, self._source)
        told = (manifest.get("count"), manifest.get("sha256"))
        if told != (self._count, self._digest.hexdigest()) and not self._goes_on(manifest):
            raise Failed(f"{self._source} is not what its manifest says: it was damaged; export it again")
        self._digest, self._count, self.has_manifest = sha256(), 0, True
        self._start = self._place

    def end(self) -> None:
        """Nothing comes any more; raises :class:`Failed` when a manifest should have come."""
        if self._count or not self.has_manifest:
            raise Failed(f"{self._source} ends without a manifest: it was cut off; export it again")

    def _goes_on(self, manifest: Json) -> bool:
        """Whether a manifest tells of the last lines so far, and others come before them."""
        count = manifest.get("count")
        if not isinstance(count, int) or manifest.get("after") is None or not 0 <= count < self._count:
            return False
        if self._path is None:
            return True
        digest = sha256()
        with self._path.open("rb") as file:
            file.seek(self._start)
            for line in islice(file, self._count - count, self._count):
                digest.update(line)
        return bool(manifest.get("sha256") == digest.hexdigest())


def _manifest_of(line: bytes, source: str) -> Json:
    import orjson

    try:
        manifest: Json = dict(orjson.loads(line)["manifest"])
    except (ValueError, TypeError) as error:
        raise Failed(f"{source} has a broken manifest: it was cut off; export it again") from error
    return manifest


def _taken_in(target: Target, name: str) -> Counter[str]:
    """How many interactions became what, by the names of the service's answer; raises :class:`Failed`."""
    told = Counter[str]()
    checked = None
    size = None
    if name == "-":
        checked = _Checked("standard input")
    else:
        _check(Path(name))
        size = Path(name).stat().st_size
    try:
        with click.open_file(name, "rb") as file, _progress("imported", size) as advance:
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
    checked = _Checked(str(path), path)
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
    checked: _Checked | None,
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


def _batches(file: IO[Any], checked: _Checked | None) -> Iterator[tuple[int, bytes]]:
    """All lines, some at a time, each with the number of the first; manifests, which nobody takes in, count as well.

    The last one is left out where an export was cut off in it.
    """
    lines: list[bytes] = []
    first, size = 1, 0
    for number, line in enumerate(file, 1):
        if checked is not None:
            checked.take(line)
        if not line.endswith(b"\n") and not line.startswith(_MANIFEST) and not _is_whole(line):
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


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Tell on a terminal's standard error how many bytes it has been so far."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda size: progress.advance(task, size)
