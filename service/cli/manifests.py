"""Manifests: what is at the end of an export's lines, and whether the lines before it are what it says."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from service.cli.api import Failed, Json

#: How the line of a manifest begins.
MANIFEST: Final = b'{"manifest":'


class Checked:
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
        if not line.startswith(MANIFEST):
            self._digest.update(line)
            self._count += 1
            return
        manifest = manifest_of(line, self._source)
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


def manifest_of(line: bytes, source: str) -> Json:
    """What a manifest's line says; ``source`` is where it is from. Raises :class:`Failed` for one that is broken."""
    import orjson

    try:
        manifest: Json = dict(orjson.loads(line)["manifest"])
    except (ValueError, TypeError) as error:
        raise Failed(f"{source} has a broken manifest: it was cut off; export it again") from error
    return manifest
