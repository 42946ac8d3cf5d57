"""The SDK in all its forms, and what it asks, which runs on a loop of its own: synchronous calls block the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import service
from service import (
    AsyncInteractionsClient,
    InteractionData,
    InteractionPage,
    InteractionsClient,
    InteractionSummary,
    Replay,
    StreamEvent,
)
from service.sdk.loop_thread import LoopThread
from service.settings import Secret, Settings
from tests.support.gateway import Gateway
from tests.support.upstreams import Emulated, deployment

MODEL = "gemini/gemini-2.5-flash"
SERVICE_KEY = "a-key-of-the-service"
T = TypeVar("T")

_CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "gemini/*", api_key: upstream-key-a, api_base: "{url}"}}
general_settings: {{drain_timeout: 5, upstream_settle: 0.15}}
"""


class Backdrop:
    """An emulator and a service before it."""

    def __init__(self, folder: Path) -> None:
        self._thread = LoopThread()
        self.folder = folder
        self.upstream = self.run(self._emulator())
        self.config = folder / "config.yaml"
        self.config.write_text(_CONFIG.format(url=self.upstream.url), "utf-8")
        self.service = self.start_service(folder / "service.db")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop of the emulator and the service."""
        return self._thread.call(work)

    def start_service(self, database: Path, **settings: Any) -> Gateway:
        """Another service; the caller ends it by :meth:`run`."""
        given: dict[str, Any] = {
            "database_url": f"sqlite:///{database}",
            "default_deployment": deployment(self.upstream),
            "master_key": Secret(SERVICE_KEY),
            "drain_timeout": 5.0,
            "upstream_settle": 0.15,
        } | settings

        async def start() -> Gateway:
            return await Gateway(Settings(**given)).start()

        return self.run(start())

    @property
    def remote(self) -> dict[str, Any]:
        """Arguments that ask the service."""
        return {"base_url": self.service.url, "api_key": SERVICE_KEY}

    @property
    def embedded(self) -> dict[str, Any]:
        """Arguments that ask the emulator from inside this process."""
        return {"config": str(self.config), "database_url": f"sqlite:///{self.folder / 'embedded.db'}"}

    def close(self) -> None:
        self.run(self.service.stop())
        self.run(self.upstream.close())
        self._thread.stop()

    @staticmethod
    async def _emulator() -> Emulated:
        emulated = Emulated()
        await emulated.server.start_server()
        return emulated


class Sdk(Protocol):
    """One form of the SDK, all of whose calls are made and ended before they return."""

    def create(self, content: Any = "Hello", **options: Any) -> InteractionData: ...
    def stream(self, content: Any = "Hello", **options: Any) -> list[StreamEvent]: ...
    def get(self, interaction_id: str, **options: Any) -> InteractionData: ...
    def events(self, interaction_id: str, **options: Any) -> list[StreamEvent]: ...
    def cancel(self, interaction_id: str, **options: Any) -> InteractionData: ...
    def delete(self, interaction_id: str, **options: Any) -> None: ...
    def found(self, **options: Any) -> list[InteractionSummary]: ...
    def page(self, **options: Any) -> InteractionPage: ...
    def replay(self, interaction_id: str, **options: Any) -> Replay[Any]: ...
    def wait(self, interaction: Any, **options: Any) -> InteractionData: ...


@dataclass(frozen=True, slots=True)
class Sync:
    """The synchronous methods or functions; ``connection`` goes with each call of a function."""

    calls: Any
    connection: dict[str, Any]

    def create(self, content: Any = "Hello", **options: Any) -> InteractionData:
        told: InteractionData = self._call("create_interaction", **_asked(content), **options)
        return told

    def stream(self, content: Any = "Hello", **options: Any) -> list[StreamEvent]:
        return list(self._call("create_interaction", **_asked(content), stream=True, **options))

    def get(self, interaction_id: str, **options: Any) -> InteractionData:
        told: InteractionData = self._call("get_interaction", interaction_id, **options)
        return told

    def events(self, interaction_id: str, **options: Any) -> list[StreamEvent]:
        return list(self._call("get_interaction", interaction_id, stream=True, **options))

    def cancel(self, interaction_id: str, **options: Any) -> InteractionData:
        told: InteractionData = self._call("cancel_interaction", interaction_id, **options)
        return told

    def delete(self, interaction_id: str, **options: Any) -> None:
        assert self._call("delete_interaction", interaction_id, **options) is None

    def found(self, **options: Any) -> list[InteractionSummary]:
        return [*self._call("list_interactions", **options)]

    def page(self, **options: Any) -> InteractionPage:
        page = self._call("list_interactions", **options)
        return InteractionPage(interactions=page.interactions, next_cursor=page.next_cursor)

    def replay(self, interaction_id: str, **options: Any) -> Replay[Any]:
        replay: Replay[Any] = self._call("replay_interaction", interaction_id, **options)
        return replay

    def wait(self, interaction: Any, **options: Any) -> InteractionData:
        told: InteractionData = interaction.wait(**options)
        return told

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self.calls, name)(*arguments, **options, **self.connection)


@dataclass(frozen=True, slots=True)
class Async:
    """The asynchronous methods or functions, each call on an event loop of its own."""

    calls: Any
    connection: dict[str, Any]
    prefix: str = ""

    def create(self, content: Any = "Hello", **options: Any) -> InteractionData:
        told: InteractionData = self._run("create_interaction", **_asked(content), **options)
        return told

    def stream(self, content: Any = "Hello", **options: Any) -> list[StreamEvent]:
        return self._all("create_interaction", **_asked(content), stream=True, **options)

    def get(self, interaction_id: str, **options: Any) -> InteractionData:
        told: InteractionData = self._run("get_interaction", interaction_id, **options)
        return told

    def events(self, interaction_id: str, **options: Any) -> list[StreamEvent]:
        return self._all("get_interaction", interaction_id, stream=True, **options)

    def cancel(self, interaction_id: str, **options: Any) -> InteractionData:
        told: InteractionData = self._run("cancel_interaction", interaction_id, **options)
        return told

    def delete(self, interaction_id: str, **options: Any) -> None:
        assert self._run("delete_interaction", interaction_id, **options) is None

    def found(self, **options: Any) -> list[InteractionSummary]:
        async def every() -> list[InteractionSummary]:
            return [summary async for summary in self._call("list_interactions", **options)]

        return asyncio.run(every())

    def page(self, **options: Any) -> InteractionPage:
        page: InteractionPage = self._run("list_interactions", **options)
        return page

    def replay(self, interaction_id: str, **options: Any) -> Replay[Any]:
        replay: Replay[Any] = self._run("replay_interaction", interaction_id, **options)
        return replay

    def wait(self, interaction: Any, **options: Any) -> InteractionData:
        told: InteractionData = asyncio.run(interaction.wait(**options))
        return told

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self.calls, self.prefix + name)(*arguments, **options, **self.connection)

    def _run(self, name: str, *arguments: Any, **options: Any) -> Any:
        async def call() -> Any:
            return await self._call(name, *arguments, **options)

        return asyncio.run(call())

    def _all(self, name: str, *arguments: Any, **options: Any) -> list[StreamEvent]:
        async def every() -> list[StreamEvent]:
            return [event async for event in await self._call(name, *arguments, **options)]

        return asyncio.run(every())


def _asked(content: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": content}


def client(connection: dict[str, Any]) -> tuple[Sdk, Callable[[], object]]:
    """The client, and what closes it."""
    made = InteractionsClient(**connection)
    return Sync(made, {}), made.close


def async_client(connection: dict[str, Any]) -> tuple[Sdk, Callable[[], object]]:
    """The asynchronous client, and what closes it."""
    made = AsyncInteractionsClient(**connection)
    return Async(made, {}), lambda: asyncio.run(made.close())


def functions(connection: dict[str, Any]) -> tuple[Sdk, Callable[[], object]]:
    """The functions."""
    return Sync(service, connection), lambda: None


def async_functions(connection: dict[str, Any]) -> tuple[Sdk, Callable[[], object]]:
    """The asynchronous functions."""
    return Async(service, connection, "a"), lambda: None


FORMS = (client, async_client, functions, async_functions)
PLACES = ("embedded", "remote")
