"""Whom a client asks: decided once, from arguments over environment, without asking anybody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from service.errors import ConfigurationError
from service.sdk.errors import SdkConfigurationError
from service.sdk.params import CONNECTION, check_names
from service.settings import LoadedSettings, load
from service.settings.urls import parse_api_base

_RESUME_TIMEOUT: Final = 60.0
#: Variables that an embedded service is configured by; another value is another service.
_VARIABLES: Final = (
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_API_BASE",
    "DATABASE_URL",
    "INTERACTIONS_DATABASE_URL",
    "INTERACTIONS_CONFIG",
)
_NO_UPSTREAM: Final = (
    "There is nobody to ask: set the environment variable GEMINI_API_KEY (or pass api_key=), or name a configuration "
    "with a model_list by config= or INTERACTIONS_CONFIG, or set INTERACTIONS_BASE_URL (or pass base_url=) to use a "
    "running service."
)


@dataclass(frozen=True, slots=True)
class Remote:
    """A running service."""

    base_url: str
    api_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A service inside this process; equal ones are the same one."""

    config: str | None
    database_url: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    environment: tuple[tuple[str, str], ...] = field(repr=False)

    def settings(self) -> LoadedSettings:
        """Its settings; raises :class:`SdkConfigurationError`."""
        environ = dict(os.environ) | dict(self.environment)
        if self.api_key is not None:
            environ["GEMINI_API_KEY"] = self.api_key
        try:
            loaded = load(self.config, environ, {"database_url": self.database_url})
        except ConfigurationError as error:
            raise SdkConfigurationError(str(error)) from error
        settings = loaded.settings
        if not (settings.deployments or settings.default_deployment):
            raise SdkConfigurationError(_NO_UPSTREAM)
        # Nobody but this process can reach it.
        return replace(loaded, settings=replace(settings, master_key=None))


Target = Remote | Embedded


@dataclass(frozen=True, slots=True)
class Options:
    """A client's options with everything from the environment in them."""

    target: Target
    resume_timeout: float


def resolve(connection: Mapping[str, Any]) -> Options:
    """The options that these arguments mean in the present environment.

    Raises :class:`SdkConfigurationError` for a URL that is none, and for arguments that exclude each other.
    """
    check_names("InteractionsClient", connection, CONNECTION)
    environ = os.environ
    base_url = connection.get("base_url") or environ.get("INTERACTIONS_BASE_URL")
    resume_timeout = connection.get("resume_timeout")
    return Options(
        _remote(base_url, connection) if base_url else _embedded(connection),
        _RESUME_TIMEOUT if resume_timeout is None else resume_timeout,
    )


def _remote(base_url: str, connection: Mapping[str, Any]) -> Remote:
    given = sorted(name for name in ("config", "database_url") if connection.get(name))
    if given:
        raise SdkConfigurationError(
            f"{given[0]}= is for a service inside this process, but base_url= or INTERACTIONS_BASE_URL names a "
            "running one; leave one of them out."
        )
    try:
        base, _ = parse_api_base(base_url, "base_url")
    except ConfigurationError as error:
        raise SdkConfigurationError(str(error)) from error
    environ = os.environ
    key = (
        connection.get("api_key")
        or environ.get("INTERACTIONS_API_KEY")
        or environ.get("INTERACTIONS_MASTER_KEY")
    )
    return Remote(base, key or None)


def _embedded(connection: Mapping[str, Any]) -> Embedded:
    environ = os.environ
    return Embedded(
        connection.get("config") or environ.get("INTERACTIONS_CONFIG") or None,
        connection.get("database_url") or environ.get("INTERACTIONS_DATABASE_URL") or None,
        connection.get("api_key") or None,
        tuple((name, environ[name]) for name in _VARIABLES if environ.get(name)),
    )
