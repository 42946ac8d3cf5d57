"""Files of upstream that content names by their URI, and how their bytes are fetched.

Only what a deployment itself serves is ever asked for: the URI must be on its origin, under its path, and be that of a
file (``/v1beta/files/NAME``, with or without ``:download``). Of a caller's URI nothing but the version and the name
goes into the request. Google gives out the bytes of files that a model made, and refuses those of files that were
uploaded ("Only generated files can be downloaded", google-genai 3.4.0, ``files.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

from service.errors import InvalidRequest
from service.upstream.connection import Origin, TransportError
from service.upstream.deployments import Deployment
from service.upstream.response import Response
from service.upstream.transport import Transport, request_head
from service.wire import codec

_PATH: Final = re.compile(
    r"(?P<prefix>(?:/[A-Za-z0-9._~-]+)*?)(?:/download)?/(?P<version>v\d+(?:alpha|beta)?\d*)"
    r"/files/(?P<name>[A-Za-z0-9_-]{1,64})(?P<download>:download)?"
)
#: Seconds that a download may take.
_LIMIT: Final = 120.0
#: A file of upstream's is some 200 bytes of description.
_LARGEST_DESCRIPTION: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Refusals that say nothing about the file.
_PASSING: Final = frozenset({401, 408, 425, 429})
#: What Google's front end says, with a 400 as well, of a key that it does not take.
_KEY_REFUSED: Final = b"api key"


class FileRefused(Exception):
    """Upstream will not give out the file, now or later, or it is too large."""


class FileUnavailable(Exception):
    """The file could not be had now."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as its URI names it."""

    origin: Origin
    prefix: str
    version: str
    name: str

    @property
    def path(self) -> str:
        """Where upstream describes it."""
        return f"{self.prefix}/{self.version}/files/{self.name}"

    @property
    def canonical(self) -> str:
        """One spelling for all URIs of the same file."""
        scheme = "https" if self.origin.tls else "http"
        return f"{scheme}://{self.origin.host}:{self.origin.port}{self.prefix}/files/{self.name}"

    def is_on(self, deployment: Deployment) -> bool:
        """Whether this deployment's upstream serves it."""
        return self.origin == deployment.origin and self.prefix == urlsplit(deployment.settings.api_base).path


def file_of(uri: str) -> File | None:
    """The file that a URI names; None for a URI of any other kind."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    found = _PATH.fullmatch(parts.path)
    if found is None or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    tls = parts.scheme == "https"
    origin = Origin(parts.hostname, port or (443 if tls else 80), tls)
    return File(origin, found["prefix"], found["version"], found["name"])


def shares_files(one: Deployment, other: Deployment) -> bool:
    """Whether a file of one deployment is one of the other's: files are bound to a key (contract 5.5)."""
    return one.origin == other.origin and one.settings.api_key == other.settings.api_key


class Files:
    """Fetches files, of at most so many bytes each."""

    def __init__(self, transport: Transport, largest: int) -> None:
        self._transport = transport
        self._largest = largest

    async def download(self, deployment: Deployment, file: File) -> tuple[bytes, str]:
        """The bytes of a file and their type; raises :class:`FileRefused` or :class:`FileUnavailable`."""
        if not file.is_on(deployment):
            raise FileRefused("it is not on this deployment's upstream")
        target = f"{file.path}:download?alt=media"
        try:
            async with await self._get(deployment, target) as response:
                if response.status not in _REDIRECTS:
                    return await self._taken(deployment, file, response)
                target = _redirected(file, target, response)
            async with await self._get(deployment, target) as response:
                return await self._taken(deployment, file, response)
        except TransportError as error:
            raise FileUnavailable(str(error)) from error

    async def _get(self, deployment: Deployment, target: str) -> Response:
        headers = {
            "Host": urlsplit(deployment.settings.api_base).netloc,
            "x-goog-api-key": deployment.settings.api_key.reveal(),
            "Accept": "*/*",
        }
        head = request_head("GET", target, headers) + b"\r\n"
        return await self._transport.request(deployment.origin, head, b"", total_timeout=_LIMIT)

    async def _taken(self, deployment: Deployment, file: File, response: Response) -> tuple[bytes, str]:
        if response.status == 200:
            body = await _read(response, self._largest)
            if not body:
                raise FileUnavailable("it came without bytes")
            return body, response.headers.get("content-type", "").partition(";")[0].strip()
        _check_passing(response)
        if response.status == 400 and _KEY_REFUSED in (await _read(response, _LARGEST_DESCRIPTION)).lower():
            raise FileUnavailable("upstream does not take the key")
        if response.status >= 400 and await self._is_being_made(deployment, file):
            raise FileUnavailable("upstream is still making it")
        raise FileRefused(f"upstream answered {response.status}")

    async def _is_being_made(self, deployment: Deployment, file: File) -> bool:
        async with await self._get(deployment, file.path) as response:
            _check_passing(response)
            if response.status != 200:
                return False
            try:
                told = codec.loads(await _read(response, _LARGEST_DESCRIPTION))
            except InvalidRequest:
                return False
        return isinstance(told, dict) and told.get("state") == "PROCESSING"


def _check_passing(response: Response) -> None:
    if response.status >= 500 or response.status in _PASSING:
        raise FileUnavailable(f"upstream answered {response.status}")


async def _read(response: Response, most: int) -> bytes:
    """The body, of which never more than this is held; raises :class:`FileRefused` if there is more."""
    declared = response.headers.get("content-length", "")
    pieces: list[bytes] = []
    size = int(declared) if declared.isdecimal() else 0
    if size <= most:
        size = 0
        while chunk := await response.chunk():
            size += len(chunk)
            if size > most:
                break
            pieces.append(chunk)
    if size > most:
        raise FileRefused(f"it has more than {most} bytes")
    return b"".join(pieces)


def _redirected(file: File, target: str, response: Response) -> str:
    """Where upstream sends a download, if that is the same file on the same origin: the key goes nowhere else."""
    scheme = "https" if file.origin.tls else "http"
    base = f"{scheme}://{file.origin.host}:{file.origin.port}{target}"
    try:
        uri = urljoin(base, response.headers.get("location", ""))
    except ValueError:
        uri = ""
    elsewhere = file_of(uri)
    if elsewhere is None or elsewhere.canonical != file.canonical:
        raise FileRefused(f"upstream answered {response.status} and sends the request elsewhere")
    parts = urlsplit(uri)
    return f"{parts.path}?alt=media"
