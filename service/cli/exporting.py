"""`interactions export`: interactions as files, whole."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from service.cli.api import Failed, Json, Parameters, connected
from service.cli.choosing import chosen
from service.cli.manifests import MANIFEST, manifest_of
from service.cli.progress import progress
from service.cli.target import Target, targeted

_FORMATS: Final = ("jsonl", "csv", "parquet")
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
    asked = output.with_name(f"{output.name}.part.asked")
    if resume and not part.exists() and output.exists():
        part = output
    try:
        kept = _Kept.of(part) if resume and part.exists() else _Kept()
        if kept.last is not None:
            _check_asked(parameters, asked)
        more = [] if kept.last is None else [("cursor", kept.last)]
        try:
            with progress("exported", None) as advance:
                begin = partial(asked.write_bytes, orjson.dumps(parameters))
                asyncio.run(_receive(target, [*parameters, *more], part, kept.size, advance, begin))
            count, digest = _checked(part, kept.size) if form == "jsonl" else _measured(part, form)
        except BaseException:
            if part != output and (form != "jsonl" or _is_empty(part)):
                part.unlink(missing_ok=True)
                asked.unlink(missing_ok=True)
            raise
        part.replace(output)
        asked.unlink(missing_ok=True)
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


def _check_asked(parameters: Parameters, path: Path) -> None:
    """Raises :class:`Failed` where the export that is gone on with was begun with other parameters than these."""
    import orjson

    if path.exists() and path.read_bytes() != orjson.dumps(parameters):
        begun = " ".join(f"{name}={value}" for name, value in orjson.loads(path.read_bytes()))
        raise Failed(f"this export was begun as {begun!r}; go on with the same, or leave out --resume")


async def _receive(
    target: Target,
    parameters: Parameters,
    path: Path,
    start: int,
    advance: Callable[[int], None],
    begin: Callable[[], object],
) -> None:
    """Write an export behind the first ``start`` bytes of a file, which is not touched before the service answers.

    ``begin`` is called then.
    """
    async with connected(target) as api, aclosing(api.pieces("api/export", parameters)) as pieces:
        piece: bytes | None = await anext(pieces, b"")
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            begin()
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
                if not line.endswith(b"\n") or line.startswith(MANIFEST):
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
            if line.startswith(MANIFEST):
                manifest = manifest_of(line, str(path))
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
