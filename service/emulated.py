"""The built-in emulator in the place of every upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from aiohttp import web

from service.settings import DeploymentSettings, Secret, Settings
from service.settings.deployments import EMULATED, EMULATOR_KEY
from service.shared import SETTINGS

_ANYTHING: Final = DeploymentSettings(id="default", model_name="*", model="*", api_key=Secret(EMULATOR_KEY))


async def emulator(app: web.Application) -> AsyncIterator[None]:
    """Have it answer for all deployments of the settings, or for one that serves anything."""
    from service.emulator import EmulatorConfig, create_emulator

    # The service has had its time to stop when this one's comes.
    runner = web.AppRunner(create_emulator(EmulatorConfig()), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    app[SETTINGS] = _on_emulator(app[SETTINGS], f"http://{host}:{port}")
    yield
    await runner.cleanup()


def _on_emulator(settings: Settings, base: str) -> Settings:
    default = settings.default_deployment
    if default is None and not settings.deployments:
        default = _ANYTHING
    return replace(
        settings,
        deployments=tuple(_emulated(entry, base) for entry in settings.deployments),
        default_deployment=None if default is None else _emulated(default, base),
    )


def _emulated(entry: DeploymentSettings, base: str) -> DeploymentSettings:
    return replace(entry, id=EMULATED + entry.id, api_base=base)
