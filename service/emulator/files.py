"""Files: what models have made and delivered by URI, and what was uploaded, for 48 hours (contract 5.2 and 6).

A file belongs to the key that made it. The bytes of an uploaded one are not given out again, as with Google; the words
are its SDK's (google-genai 3.4.0, `files.py`). For a file that is gone, foreign or was never there Google has one
sentence and the status 403, also where a request refers to it (googleapis/python-genai#1218 and many others).
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from service.emulator.clock import timestamp
from service.emulator.inputs import Step
from service.errors import InvalidRequest, UpstreamError

LIFETIME = 2 * 86_400.0
GENERATED, UPLOADED = "GENERATED", "UPLOADED"
_NAME_LENGTH = 12
_ALPHABET = string.ascii_lowercase + string.digits
_PATH = re.compile(r"/v1(?:beta)?/files/([A-Za-z0-9_-]+)(?::download)?")


@dataclass(frozen=True, slots=True)
class File:
    """One file; an empty `key` lets everybody have it."""

    name: str
    key: str
    mime_type: str
    body: bytes
    source: str
    created: float

    def resource(self, address: str, version: str) -> dict[str, Any]:
        """The file as Google describes it, at the address where the emulator was asked for it."""
        uri = f"{address}/{version}/files/{self.name}"
        told = {
            "name": f"files/{self.name}",
            "mimeType": self.mime_type,
            "sizeBytes": str(len(self.body)),
            "createTime": timestamp(self.created),
            "updateTime": timestamp(self.created),
            "expirationTime": timestamp(self.created + LIFETIME),
            "sha256Hash": base64.b64encode(hashlib.sha256(self.body).digest()).decode(),
            "uri": uri,
            "state": "ACTIVE",
            "source": self.source,
        }
        return told if self.source == UPLOADED else {**told, "downloadUri": f"{uri}:download?alt=media"}


class Files:
    """All files that can still be found."""

    def __init__(self) -> None:
        self._by_name: dict[str, File] = {}

    def put(self, body: bytes, mime_type: str, now: float, *, key: str = "", source: str = GENERATED) -> File:
        """Keep a file under a new name."""
        name = "".join(secrets.choice(_ALPHABET) for _ in range(_NAME_LENGTH))
        file = self._by_name[name] = File(name, key, mime_type, body, source, now)
        return file

    def find(self, name: str, key: str, now: float) -> File:
        """The file of that name.

        Raises UpstreamError when it never existed, is too old, or belongs to another key.
        """
        file = self._by_name.get(name)
        if file is not None and now >= file.created + LIFETIME:
            del self._by_name[name]
            file = None
        if file is None or file.key not in ("", key):
            message = f"You do not have permission to access the File {name} or it may not exist."
            raise UpstreamError(403, "permission_denied", message)
        return file

    def download(self, name: str, key: str, now: float) -> File:
        """The file of that name, whose bytes may be given out.

        Raises InvalidRequest for one that was uploaded, and as `find`.
        """
        file = self.find(name, key, now)
        if file.source == UPLOADED:
            raise InvalidRequest(
                "Only generated files can be downloaded, uploaded files can't be downloaded."
            )
        return file

    def deliver(self, content: dict[str, Any], key: str, now: float, address: str) -> dict[str, Any]:
        """The content with a URI in place of its bytes."""
        file = self.put(base64.b64decode(content["data"]), content["mime_type"], now, key=key)
        told = {name: value for name, value in content.items() if name != "data"}
        return {**told, "uri": f"{address}/v1beta/files/{file.name}:download?alt=media"}

    def check(self, steps: Iterable[Step], key: str, now: float, address: str) -> None:
        """Raise UpstreamError if the steps refer to a file of this address that is not there."""
        for uri in _uris(steps):
            name = _name_at(uri, address)
            if name is not None:
                self.find(name, key, now)


def _uris(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        for held in step.values():
            for item in held if isinstance(held, list) else ():
                if isinstance(item, dict) and isinstance(item.get("uri"), str):
                    yield item["uri"]


def _name_at(uri: str, address: str) -> str | None:
    if not uri.startswith(f"{address}/"):
        return None
    found = _PATH.fullmatch(urlsplit(uri).path)
    return found[1] if found is not None else None
