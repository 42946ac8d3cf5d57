"""What the reading commands work on: a running service by its URL, or a database, which they serve to themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

from service.errors import DatabaseUnusable
from service.settings import Settings

_P = ParamSpec("_P")
_R = TypeVar("_R")

_OPTIONS: Final = (
    click.option(
        "--url",
        metavar="URL",
        envvar="INTERACTIONS_URL",
        show_envvar=True,
        help="A running service, such as http://127.0.0.1:4000.",
    ),
    click.option(
        "--key",
        metavar="KEY",
        envvar="INTERACTIONS_MASTER_KEY",
        show_envvar=True,
        help="The key of that service.",
    ),
    click.option("--database-url", metavar="URL", help="A database, in place of a service."),
    click.option("--config", metavar="FILE", help="The configuration that names the database, YAML."),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command reads and writes."""

    url: str | None = None
    key: str | None = None
    database_url: str | None = None
    config: str | None = None


def targeted(command: Callable[_P, _R]) -> Callable[..., _R]:
    """Give a command the options that name its :class:`Target`, and that as its first argument.

    Ends with a usage error when a service and a database are both named.
    """

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> _R:
        names = ("url", "key", "database_url", "config")
        target = Target(**{name: kwargs.pop(name) for name in names})
        if target.url is not None and (target.database_url is not None or target.config is not None):
            # A service that the environment names gives way to a database that the command line names.
            if os.environ.get("INTERACTIONS_URL") == target.url:
                target = Target(None, None, target.database_url, target.config)
            else:
                raise click.UsageError("--url names a service; leave out --database-url and --config.")
        return command(target, *args, **kwargs)  # type: ignore[arg-type]

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def check_file(settings: Settings) -> None:
    """Refuse a SQLite file that is not there; raises :class:`DatabaseUnusable`.

    A reading command makes no database: a path with a mistake in it would look like an empty one.
    """
    from service.store.engine import file_of

    file = file_of(settings.database_url)
    if file is not None and not Path(file).exists():
        raise DatabaseUnusable(
            f"there is no file {file!r}; name the database of a service (--database-url), or its --url",
            settings.database_url_source,
        )
