"""Reads the configuration once: command line over environment over file.

`os.environ/NAME` stands for a variable wherever a value is read; the process's own variables come before the
file's `environment_variables`. Keys of LiteLLM's without meaning here are not read, only listed in a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import cast

from service.errors import ConfigurationError
from service.settings.deployments import default_deployment, read_deployments
from service.settings.document import read_document
from service.settings.keys import (
    ENVIRONMENT_VARIABLES,
    GENERAL_SETTINGS,
    LITELLM_SETTINGS,
    ROUTER_SETTINGS,
    TOP,
)
from service.settings.model import History, LoadedSettings, Settings
from service.settings.retention import read_retention
from service.settings.router import read_router
from service.settings.section import Reading, Section
from service.settings.served import Served, check_models
from service.settings.urls import parse_database_url
from service.settings.values import describe, given, mapping
from service.settings.webhooks import read_webhooks

#: Variables that replace a key of `general_settings`, and those that only stand in for it.
_REPLACING = {"DATABASE_URL": "database_url", "INTERACTIONS_MASTER_KEY": "master_key"}
_STANDING_IN = {"LITELLM_MASTER_KEY": "master_key", **_REPLACING}
_MIB = 1024 * 1024
#: A request is read into memory; larger ones no database takes as one value.
_LARGEST_MIB = 1024


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
    general = _general(reading, top.raw("general_settings"), own, chosen)
    database_url, dropped = _database_url(general)

    plain = Settings()
    poll_interval = given(general.seconds("poll_interval", above=0), plain.poll_interval)
    settings = Settings(
        deployments=deployments,
        default_deployment=None if deployments else default_deployment(reading.environ, emulator=emulator),
        router=router,
        master_key=general.secret("master_key"),
        database_url=database_url,
        database_url_source=general.name("database_url"),
        database_connection_pool_limit=given(
            general.integer("database_connection_pool_limit", least=1), plain.database_connection_pool_limit
        ),
        host=(general.text("host") or plain.host).strip("[]"),
        port=given(general.integer("port", most=65_535), plain.port),
        emulator=emulator,
        max_body_bytes=given(_max_body_bytes(general), plain.max_body_bytes),
        history=cast("History", general.choice("history", ("upstream", "local")) or plain.history),
        max_rebuild_bytes=given(general.integer("max_rebuild_bytes", least=1), plain.max_rebuild_bytes),
        keep_media=given(general.flag("keep_media"), plain.keep_media),
        max_media_bytes=given(general.integer("max_media_bytes", least=1), plain.max_media_bytes),
        adopt_unknown=given(general.flag("adopt_unknown"), plain.adopt_unknown),
        max_concurrent_requests=given(
            general.integer("max_concurrent_requests", least=1), plain.max_concurrent_requests
        ),
        recorded_projects=given(general.strings("recorded_projects"), plain.recorded_projects),
        retention_policies=read_retention(
            general.name("retention_policies"), general.value("retention_policies")
        ),
        retention_interval=given(general.seconds("retention_interval", above=0), plain.retention_interval),
        writer_queue_limit=given(general.integer("writer_queue_limit", least=1), plain.writer_queue_limit),
        upstream_settle=given(general.seconds("upstream_settle", least=0), plain.upstream_settle),
        drain_timeout=given(general.seconds("drain_timeout", least=0), plain.drain_timeout),
        lease_seconds=given(general.seconds("lease_seconds", above=0), plain.lease_seconds),
        claim_interval=given(general.seconds("claim_interval", above=0), plain.claim_interval),
        claim_batch=given(general.integer("claim_batch", least=1), plain.claim_batch),
        supervisor_concurrency=given(
            general.integer("supervisor_concurrency", least=1), plain.supervisor_concurrency
        ),
        poll_rate=given(general.number("poll_rate", above=0), plain.poll_rate),
        poll_interval=poll_interval,
        poll_interval_max=given(
            general.seconds("poll_interval_max", least=poll_interval),
            max(poll_interval, plain.poll_interval_max),
        ),
        background_streams=given(general.integer("background_streams", least=0), plain.background_streams),
        background_timeout=given(general.seconds("background_timeout", above=0), plain.background_timeout),
        usage_interval=given(general.seconds("usage_interval", above=0), plain.usage_interval),
        stream_idle_timeout=given(general.seconds("stream_idle_timeout", above=0), plain.stream_idle_timeout),
        keep_alive_interval=given(general.seconds("keep_alive_interval", above=0), plain.keep_alive_interval),
        event_flush_interval=given(
            general.seconds("event_flush_interval", least=0), plain.event_flush_interval
        ),
        index_interval=given(general.seconds("index_interval", above=0), plain.index_interval),
        export_stall_timeout=given(
            general.seconds("export_stall_timeout", above=0), plain.export_stall_timeout
        ),
        **read_webhooks(general),
        idempotency_retention=given(
            general.seconds("idempotency_retention", least=1), plain.idempotency_retention
        ),
        request_timeout=given(litellm.seconds("request_timeout", above=0), plain.request_timeout),
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


def _database_url(general: Section) -> tuple[str, list[str]]:
    name = general.name("database_url")
    value = general.text("database_url")
    if value is None:
        return Settings().database_url, []
    url, dropped = parse_database_url(value, name)
    return url, [f"{name}?{parameter}" for parameter in dropped]


def _max_body_bytes(general: Section) -> int | None:
    megabytes = general.number("max_request_size_mb", above=0)
    size = general.integer("max_body_bytes", least=1, most=_LARGEST_MIB * _MIB)
    if megabytes is not None and megabytes > _LARGEST_MIB:
        raise ConfigurationError(
            f"{general.name('max_request_size_mb')}: must be at most {_LARGEST_MIB}, got {megabytes:g}"
        )
    return int(megabytes * _MIB) if size is None and megabytes is not None else size


def _warnings(ignored: Iterable[str], skipped: Iterable[str], unused: Iterable[str]) -> tuple[str, ...]:
    parts = []
    if ignored:
        parts.append(f"LiteLLM's keys without meaning here: {', '.join(ignored)}")
    if skipped:
        parts.append(f"entries that are not Gemini's (gemini/MODEL): {', '.join(skipped)}")
    if unused:
        parts.append(f"models that no entry of model_list serves: {', '.join(unused)}")
    return (f"ignored {'; '.join(parts)}",) if parts else ()
