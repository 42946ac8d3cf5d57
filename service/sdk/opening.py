"""What both kinds of client share: their hold on the engine that they ask."""

from __future__ import annotations

from typing import Self, Unpack

from service.sdk.calls import Call
from service.sdk.engine import Engine
from service.sdk.errors import ClientUnusable
from service.sdk.loop_thread import CLOSED
from service.sdk.options import Options, resolve
from service.sdk.params import Connection
from service.sdk.process import Process, current
from service.sdk.resuming import Resuming


class Opening:
    """A client's hold on the engine that it asks."""

    def __init__(self, options: Options) -> None:
        """Take hold; raises :class:`SdkConfigurationError`. Nothing is started or connected before the first call."""
        self._options = options
        self._process: Process | None = current()
        self._engine = self._process.acquire(options.target)

    def engine(self) -> Engine:
        """The engine; another one in a process that was forked off. Raises :class:`ClientUnusable` when closed."""
        if self._process is None:
            raise ClientUnusable(CLOSED)
        if self._process is not current():
            self._process = current()
            self._engine = self._process.acquire(self._options.target)
        return self._engine

    def release(self) -> Engine | None:
        """Let go; the engine, to be closed, when no other client holds it."""
        process, self._process = self._process, None
        if process is None or process is not current():
            return None
        return process.release(self._options.target)

    async def open(self, engine: Engine, call: Call) -> Resuming:
        """Open a stream."""
        return Resuming(engine, call, await engine.open(call), self._options.resume_timeout)


class BaseClient:
    """A client of either kind; raises :class:`SdkConfigurationError` when nothing says whom to ask."""

    def __init__(self, **connection: Unpack[Connection]) -> None:
        self._opening = Opening(resolve(connection))

    @classmethod
    def of(cls, options: Options) -> Self:
        """A client with options that were resolved before."""
        client = cls.__new__(cls)
        client._opening = Opening(options)
        return client
