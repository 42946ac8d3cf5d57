"""The configuration: one frozen object, read once from YAML, environment and command line."""

from __future__ import annotations

from service.settings.checks import check_bind, check_upstream
from service.settings.loader import load
from service.settings.model import DeploymentSettings, LoadedSettings, RouterSettings, Settings
from service.settings.secret import Secret
from service.settings.show import show_config
from service.settings.urls import redact_url

__all__ = (
    "DeploymentSettings",
    "LoadedSettings",
    "RouterSettings",
    "Secret",
    "Settings",
    "check_bind",
    "check_upstream",
    "load",
    "redact_url",
    "show_config",
)
