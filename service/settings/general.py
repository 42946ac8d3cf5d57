"""The keys of `general_settings`, each with what it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from service.errors import ConfigurationError
from service.settings.model import Settings
from service.settings.retention import read_retention
from service.settings.section import Section
from service.settings.urls import parse_database_url
from service.settings.webhooks import read_allow_private, read_secrets

_MIB: Final = 1024 * 1024
#: A request is read into memory; larger ones no database takes as one value.
_LARGEST_MIB: Final = 1024

_Read = Callable[[Section, str], object]


def _seconds(*, above: float | None = None, least: float | None = None) -> _Read:
    return lambda section, key: section.seconds(key, above=above, least=least)


def _number(*, above: float) -> _Read:
    return lambda section, key: section.number(key, above=above)


def _integer(*, least: int = 0, most: int | None = None) -> _Read:
    return lambda section, key: section.integer(key, least=least, most=most)


def _choice(*options: str) -> _Read:
    return lambda section, key: section.choice(key, options)


#: Those that are settings of the same name.
_READ: Final[Mapping[str, _Read]] = {
    "master_key": Section.secret,
    "host": lambda section, key: (section.text(key) or "").strip("[]") or None,
    "port": _integer(most=65_535),
    "database_connection_pool_limit": _integer(least=1),
    "history": _choice("upstream", "local"),
    "max_rebuild_bytes": _integer(least=1),
    "keep_media": Section.flag,
    "max_media_bytes": _integer(least=1),
    "adopt_unknown": Section.flag,
    "max_concurrent_requests": _integer(least=1),
    "recorded_projects": Section.strings,
    "retention_policies": lambda section, key: read_retention(section.name(key), section.value(key)),
    "retention_interval": _seconds(above=0),
    "writer_queue_limit": _integer(least=1),
    "upstream_settle": _seconds(least=0),
    "drain_timeout": _seconds(least=0),
    "lease_seconds": _seconds(above=0),
    "claim_interval": _seconds(above=0),
    "claim_batch": _integer(least=1),
    "supervisor_concurrency": _integer(least=1),
    "poll_rate": _number(above=0),
    "poll_interval": _seconds(above=0),
    "background_streams": _integer(least=0),
    "background_timeout": _seconds(above=0),
    "usage_interval": _seconds(above=0),
    "stream_idle_timeout": _seconds(above=0),
    "keep_alive_interval": _seconds(above=0),
    "event_flush_interval": _seconds(least=0),
    "index_interval": _seconds(above=0),
    "export_stall_timeout": _seconds(above=0),
    "idempotency_retention": _seconds(least=1),
    "webhook_secret": read_secrets,
    "webhook_allow_private": read_allow_private,
    "webhook_timeout": _seconds(above=0),
    "webhook_retry_after": _seconds(above=0),
    "webhook_retry_for": _seconds(least=0),
    "webhook_concurrency": _integer(least=1),
}


def read_general(section: Section) -> tuple[dict[str, Any], list[str]]:
    """The settings that the section gives, and which parameters of the database's URL mean nothing here.

    Raises :class:`~service.errors.ConfigurationError`.
    """
    told: dict[str, Any] = {name: read(section, name) for name, read in _READ.items()}
    told["max_body_bytes"] = _max_body_bytes(section)
    told["poll_interval_max"] = _poll_interval_max(section, told["poll_interval"])
    told["database_url"], dropped = _database_url(section)
    told["database_url_source"] = section.name("database_url")
    return {name: value for name, value in told.items() if value is not None}, dropped


def _database_url(section: Section) -> tuple[str | None, list[str]]:
    name = section.name("database_url")
    value = section.text("database_url")
    if value is None:
        return None, []
    url, dropped = parse_database_url(value, name)
    return url, [f"{name}?{parameter}" for parameter in dropped]


def _max_body_bytes(section: Section) -> int | None:
    megabytes = section.number("max_request_size_mb", above=0)
    size = section.integer("max_body_bytes", least=1, most=_LARGEST_MIB * _MIB)
    if megabytes is not None and megabytes > _LARGEST_MIB:
        raise ConfigurationError(
            f"{section.name('max_request_size_mb')}: must be at most {_LARGEST_MIB}, got {megabytes:g}"
        )
    return int(megabytes * _MIB) if size is None and megabytes is not None else size


def _poll_interval_max(section: Section, poll_interval: float | None) -> float:
    """The longest pause, which is no shorter than the first."""
    plain = Settings()
    first = plain.poll_interval if poll_interval is None else poll_interval
    longest = section.seconds("poll_interval_max", least=first)
    return max(first, plain.poll_interval_max) if longest is None else longest
