"""Several emulators as deployments of one model, and a service in front of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from service.settings import DeploymentSettings
from service.settings.model import RouterSettings
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json
from tests.support.upstreams import Emulated, deployment


@dataclass(frozen=True, slots=True)
class Fleet:
    """Emulators by the ids of their deployments."""

    emulators: dict[str, Emulated]
    start_gateway: StartGateway

    def __getitem__(self, name: str) -> Emulated:
        return self.emulators[name]

    def entries(self, names: Iterable[str] | None = None, **members: Any) -> tuple[DeploymentSettings, ...]:
        """The deployments; a member that is a mapping has a value for each id."""
        chosen = self.emulators if names is None else names
        return tuple(
            replace(deployment(self.emulators[name], "fast", MODEL, id=name), **_of(name, members))
            for name in chosen
        )

    async def gateway(self, names: Iterable[str] | None = None, **settings: Any) -> Gateway:
        """A service with these deployments; settings that are the router's go there."""
        router = {name: settings.pop(name) for name in list(settings) if name in _ROUTER}
        if "fallbacks" in router:
            router["fallbacks"] = MappingProxyType(router["fallbacks"])
        members = settings.pop("members", {})
        entries = self.entries(names, **members) + settings.pop("more", ())
        return await self.start_gateway(deployments=entries, router=RouterSettings(**router), **settings)

    def asked(self) -> Counter[str]:
        """How many creates each emulator has seen."""
        return +Counter({name: emulator.asked for name, emulator in self.emulators.items()})

    @property
    def held(self) -> int:
        """How many interactions all of them have made."""
        return sum(emulator.held for emulator in self.emulators.values())


_ROUTER = frozenset(RouterSettings.__dataclass_fields__)


def _of(name: str, members: Json) -> Json:
    return {key: value[name] if isinstance(value, dict) else value for key, value in members.items()}


async def fleet_of(start_emulator: StartEmulator, start_gateway: StartGateway, names: str) -> Fleet:
    """One emulator for each letter."""
    return Fleet({name: await start_emulator() for name in names}, start_gateway)
