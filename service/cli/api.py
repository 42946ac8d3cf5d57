"""The service's HTTP surface as commands see it, over the network or served to themselves from a database."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from service.cli.target import Target, check_file
from service.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.web import Application

Json = dict[str, Any]
Parameters = Sequence[tuple[str, str]]

#: Lines of an import may be as large as an interaction is.
_LARGEST_BODY: Final = 2 * 1024**3
_PIECE: Final = 256 * 1024
#: Larger bodies are sent piece by piece: the client wants them as files.
_LARGE: Final = 1024 * 1024
#: The exit status of what SIGINT has ended, as shells tell it.
INTERRUPTED: Final = 130


class Failed(click.ClickException):
    """The service refused, or cannot be reached."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """One line on stderr."""
        click.echo(f"error: {self.message}", err=True)


class Refused(Failed):
    """The service answered, and refused; ``retry_after`` is after how many seconds it wants to be asked again."""

    def __init__(self, message: str, status: int, retry_after: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Unreachable(Failed):
    """The service cannot be reached, or broke off."""


class Api:
    """Calls of one service; every method raises :class:`Failed`."""

    def __init__(self, session: ClientSession, served: Application | None = None) -> None:
        self._session = session
        #: The service itself, where the command serves a database to itself.
        self.served = served

    async def get(self, path: str, parameters: Parameters = ()) -> Json:
        """The JSON of an answer."""
        return await self.call("GET", path, parameters)

    async def call(
        self, method: str, path: str, parameters: Parameters = (), body: Json | bytes | None = None
    ) -> Json:
        """The JSON of an answer to any request."""
        from service.wire import codec

        data = codec.dumps(body) if isinstance(body, dict) else body
        sent = BytesIO(data) if data is not None and len(data) > _LARGE else data
        async with self._answer(method, path, parameters, sent) as response:
            raw = await response.read()
        try:
            told: Json = codec.loads(raw)
        except InvalidRequest as error:
            raise Failed(_no_service(response)) from error
        return told

    async def pieces(self, path: str, parameters: Parameters) -> AsyncGenerator[bytes, None]:
        """The body of a long answer as it comes; one that is cut short is an error."""
        async with self._answer("GET", path, parameters, None) as response:
            async for piece in response.content.iter_chunked(_PIECE):
                yield piece

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, parameters: Parameters, data: bytes | BytesIO | None
    ) -> AsyncIterator[ClientResponse]:
        from aiohttp import ClientError

        try:
            async with self._session.request(method, path, params=list(parameters), data=data) as response:
                if response.status >= 300:
                    raise Refused(await _message(response), response.status, _retry_after(response))
                yield response
        except (ClientError, TimeoutError, OSError) as error:
            raise Unreachable(
                f"the service cannot be reached, or broke off ({str(error) or type(error).__name__})"
            ) from error


def path_part(name: str) -> str:
    """A name as a part of a path; raises :class:`Failed` for one that can be none."""
    try:
        part = quote(name, safe="")
    except UnicodeEncodeError as error:
        raise Failed(f"{name!r} is no UTF-8, so nothing has that name") from error
    if part in ("", ".", ".."):
        raise Failed(f"nothing is named {name!r}; give the name or the id of what is meant")
    return part


def key_headers(key: str | None) -> dict[str, str]:
    """How a key is sent; raises :class:`ConfigurationError` for one that no header can hold."""
    if key is None:
        return {}
    if not key.isprintable():
        raise ConfigurationError("--key: expected a key in one line, without control characters")
    return {"Authorization": f"Bearer {key}"}


async def _message(response: ClientResponse) -> str:
    import orjson

    raw = await response.read()
    try:
        message: str = orjson.loads(raw)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return _no_service(response)
    return message


def _retry_after(response: ClientResponse) -> float | None:
    """What ``Retry-After`` says in seconds; a date, which the service never sends, is none."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _no_service(response: ClientResponse) -> str:
    return f"{response.url} answered {response.status}; is there an Interactions Service?"


class Part(StrEnum):
    """What a command does with a database that it serves to itself."""

    READING = "reading"
    #: It makes interactions, and sees them to their end.
    ASKING = "asking"
    #: It waits for what is derived from what is there.
    JUDGING = "judging"
    #: It brings in what was made elsewhere, if need be into a new database.
    FILLING = "filling"


@asynccontextmanager
async def connected(target: Target, part: Part = Part.READING) -> AsyncIterator[Api]:
    """The service of a target; raises :class:`ConfigurationError` for a database that cannot be used.

    One that is served to the command itself does no more by itself than the command's part asks for: the
    configuration of the service that it belongs to may be another one.
    """
    if target.url is not None:
        async with _client(target.url, target.key) as api:
            yield api
        return
    async with _served(target, part) as (url, key, app), _client(url, key, app) as api:
        yield api


@asynccontextmanager
async def _client(url: str, key: str | None, served: Application | None = None) -> AsyncIterator[Api]:
    from aiohttp import ClientSession, ClientTimeout

    headers = key_headers(key)
    try:
        session = ClientSession(
            url.rstrip("/") + "/", headers=headers, timeout=ClientTimeout(total=None, sock_connect=10)
        )
    except ValueError as error:
        raise ConfigurationError(f"--url {url}: not an http(s) URL ({error})") from error
    async with session:
        yield Api(session, served)


@asynccontextmanager
async def _served(target: Target, part: Part) -> AsyncIterator[tuple[str, str, Application]]:
    """Serve a database on this machine to whoever knows a key made for it; its address, that key and the service."""
    from aiohttp import web

    from service.api.server import TolerantRunner
    from service.app import build
    from service.settings import Secret, load
    from service.shared import Duties

    overrides: dict[str, object] = {"database_url": target.database_url}
    settings = load(target.config, os.environ, overrides).settings
    if part is not Part.FILLING:
        check_file(settings)
    key = secrets.token_urlsafe(32)
    settings = replace(settings, master_key=Secret(key), max_body_bytes=_LARGEST_BODY)
    # Whoever applies rules has them, and the prices, from the service's configuration.
    judges = part is Part.JUDGING and bool(settings.retention_policies)
    duties = Duties(
        migrates=part is Part.FILLING,
        follows=part is Part.ASKING,
        derives=judges,
        prices=judges or part is Part.FILLING,
        keeps=False,
    )
    app = build(settings, duties)
    runner = TolerantRunner(app, access_log=None, drain_timeout=1.0)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", key, app
    finally:
        await runner.cleanup()
