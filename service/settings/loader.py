"""Reads the configuration once: command line over environment over file.

`os.environ/NAME` stands for a variable wherever a value is read; the process's own variables come before the
file's `environment_variables`. Keys of LiteLLM's without meaning here are not read, only listed in a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from service.errors import ConfigurationError
from service.settings.deployments import default_deployment, read_deployments
from service.settings.document import read_document
from service.settings.general import read_general
from service.settings.keys import (
    ENVIRONMENT_VARIABLES,
    GENERAL_SETTINGS,
    LITELLM_SETTINGS,
    ROUTER_SETTINGS,
    TOP,
)
from service.settings.model import LoadedSettings, Settings
from service.settings.router import read_router
from service.settings.section import Reading, Section
from service.settings.served import Served, check_models
from service.settings.values import describe, given, mapping

#: Variables that replace a key of `general_settings`, and those that only stand in for it.
_REPLACING = {"DATABASE_URL": "database_url", "INTERACTIONS_MASTER_KEY": "master_key"}
_STANDING_IN = {"LITELLM_MASTER_KEY": "master_key", **_REPLACING}


def load(
    config_path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> LoadedSettings:
    """The configuration of this file (None: no file), environment and command line.

    ``overrides`` holds `emulator` and keys of `general_settings`; None there means not given. Raises
    `ConfigurationError`, one line that names the key and the remedy, for anything that cannot be used.
    """
    chosen = {key: value for key, value in overrides.items() if value is not None}
    emulator = bool(chosen.pop("emulator", False))
    if unknown := chosen.keys() - GENERAL_SETTINGS.ours:
        raise TypeError(f"no such override: {', '.join(sorted(unknown))}")
    own = {name: value for name, value in environ.items() if value}
    top = Section(Reading(own), "", {} if config_path is None else read_document(config_path), TOP)
    reading = Reading(_variables(top) | own, top.reading.ignored)

    deployments, skipped = read_deployments(reading, top.raw("model_list"), emulator=emulator)
    litellm = Section(reading, "litellm_settings", top.raw("litellm_settings"), LITELLM_SETTINGS)
    routing = Section(
        reading, "router_settings", top.raw("router_settings"), ROUTER_SETTINGS, fallback=litellm
    )
    router = read_router(routing)
    unused = check_models(routing, router, Served.of(deployments, skipped.values()))
    general, dropped = read_general(_general(reading, top.raw("general_settings"), own, chosen))
    request_timeout = litellm.seconds("request_timeout", above=0)
    settings = Settings(
        deployments=deployments,
        default_deployment=None if deployments else default_deployment(reading.environ, emulator=emulator),
        router=router,
        emulator=emulator,
        request_timeout=given(request_timeout, Settings().request_timeout),
        **general,
    )
    ignored = [*reading.ignored, *dropped]
    return LoadedSettings(settings, _warnings(ignored, skipped, unused))


def _variables(top: Section) -> dict[str, str]:
    """The file's `environment_variables` as strings."""
    section = Section(
        top.reading, "environment_variables", top.raw("environment_variables"), ENVIRONMENT_VARIABLES
    )
    found: dict[str, str] = {}
    for name in section.names():
        value = section.value(name)
        if isinstance(value, bool):
            found[name] = str(value).lower()
        elif isinstance(value, str | int | float):
            found[name] = str(value)
        elif value is not None:
            raise ConfigurationError(f"{section.name(name)}: expected a string, got {describe(value)}")
    return {name: value for name, value in found.items() if value}


def _general(
    reading: Reading, value: object, own: Mapping[str, str], chosen: Mapping[str, object]
) -> Section:
    """`general_settings` under what stands above it; each value keeps the name of where it comes from."""
    data = dict(mapping("general_settings", {} if value is None else value))
    names: dict[str, str] = {}
    for variable, key in _STANDING_IN.items():
        if variable in reading.environ and data.get(key) is None:
            data[key], names[key] = reading.environ[variable], variable
    for variable, key in _REPLACING.items():
        if variable in own:
            data[key], names[key] = own[variable], variable
    for key, override in chosen.items():
        data[key], names[key] = override, "--" + key.replace("_", "-")
    return Section(reading, "general_settings", data, GENERAL_SETTINGS, names=names)


def _warnings(ignored: Iterable[str], skipped: Iterable[str], unused: Iterable[str]) -> tuple[str, ...]:
    parts = []
    if ignored:
        parts.append(f"LiteLLM's keys without meaning here: {', '.join(ignored)}")
    if skipped:
        parts.append(f"entries that are not Gemini's (gemini/MODEL): {', '.join(skipped)}")
    if unused:
        parts.append(f"models that no entry of model_list serves: {', '.join(unused)}")
    return (f"ignored {'; '.join(parts)}",) if parts else ()
