"""The two kinds of URL a configuration holds: checked, spelled one way, shown without passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from service.errors import ConfigurationError
from service.settings.secret import REDACTED

#: The schemes of databases, each with the driver that is used for it.
DRIVERS: Final[Mapping[str, str]] = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_DATABASE_REMEDY = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
_VERSION = re.compile(r"/(v\d+(?:alpha|beta)?\d*)$")
#: Parameters that only Prisma, LiteLLM's database client, understands.
_PRISMA_ONLY = frozenset(
    {
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
    }
)
#: What a URL consists of (RFC 3986): anything else would have to be percent-encoded.
_PLAIN = re.compile(r"[!-~]+")
#: A part of a host's name; with the underscore that names of containers have.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_HOST = 253
#: Where brackets stand in a URL, they hold an IPv6 address, with nothing but a port beside them (RFC 3986 3.2.2).
_BRACKETED = re.compile(r"\[[^\[\]]*:[^\[\]]*\](?::[0-9]*)?")
_SECRET_PARAMETERS = frozenset({"password", "sslpassword"})


def parse_api_base(value: str, name: str) -> tuple[str, str | None]:
    """The base without version and trailing slash, and the version it ended with, if any.

    Raises `ConfigurationError` naming ``name`` for anything but a plain http(s) URL.
    """
    if not _PLAIN.fullmatch(value):
        raise ConfigurationError(
            f"{name}: holds a space or a character beyond ASCII; percent-encode it, and write a host as xn--..."
        )
    parts = _split(value, name, "write it as https://HOST")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{name}: not an http(s) URL; write it as https://HOST")
    _check_place(parts, parts.hostname, name)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{name}: must have no user, query or fragment; write it as https://HOST")
    path = parts.path.rstrip("/")
    version = _VERSION.search(path)
    if version:
        path = path[: version.start()].rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}", version[1] if version else None


def parse_database_url(value: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The URL with this service's driver, and the names of the parameters that were dropped as Prisma's.

    `ssl=` becomes libpq's `sslmode=`. Raises `ConfigurationError` naming ``name``, never showing the URL.
    """
    parts = _split(value, name, _DATABASE_REMEDY)
    driver = DRIVERS.get(parts.scheme)
    if driver is None or "://" not in value:
        scheme = f"{parts.scheme!r} is not a supported database" if parts.scheme else "not a database URL"
        raise ConfigurationError(f"{name}: {scheme}; {_DATABASE_REMEDY}")
    if driver.startswith("sqlite"):
        return _sqlite_url(value, parts, name), ()
    if not parts.hostname and "host=" not in parts.query:
        raise ConfigurationError(f"{name}: no host; {_DATABASE_REMEDY}")
    return _postgres_url(parts)


def redact_url(url: str) -> str:
    """The URL with any password replaced by stars."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if parts.password is not None:
        user, _, host = netloc.rpartition("@")
        netloc = f"{user.partition(':')[0]}:{REDACTED}@{host}"
    query = "&".join(
        f"{item.partition('=')[0]}={REDACTED}"
        if item.partition("=")[0].lower() in _SECRET_PARAMETERS
        else item
        for item in parts.query.split("&")
    )
    return _join(parts.scheme, netloc, parts.path, query)


def _split(value: str, name: str, remedy: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        if "," not in parts.netloc:
            _ = parts.port
    except ValueError:
        # The parser's own words quote the URL, and with it the password.
        raise ConfigurationError(
            f"{name}: not a valid URL; {remedy}, special characters percent-encoded"
        ) from None
    return parts


def _check_place(parts: SplitResult, host: str, name: str) -> None:
    place = parts.netloc.rpartition("@")[2]
    if "[" in place and not _BRACKETED.fullmatch(place):
        raise ConfigurationError(
            f"{name}: brackets hold an IPv6 address and nothing else; write it as https://[ADDRESS]"
        )
    if not _is_host(host):
        raise ConfigurationError(f"{name}: {host!r} can be no host; write a name or an address there")
    if parts.port == 0:
        raise ConfigurationError(f"{name}: nothing can be reached at port 0; write another, or none")


def _is_host(host: str) -> bool:
    """Whether there can be a host of this name or address."""
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            return False
        return True
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    # What ends in a number is an address, not a name (RFC 1123 2.1), and only names end in a dot.
    return not labels[-1].isdigit() or _is_address(host)


def _is_address(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True


def _sqlite_url(value: str, parts: SplitResult, name: str) -> str:
    if parts.netloc:
        raise ConfigurationError(
            f"{name}: a path follows three slashes (four when it is absolute); write sqlite:///FILE"
        )
    if parts.query or parts.path.startswith("/file:"):
        raise ConfigurationError(
            f"{name}: SQLite takes the path of a file and no parameters; write sqlite:///FILE"
        )
    if parts.path in ("", "/", "/:memory:"):
        raise ConfigurationError(f"{name}: a database in memory keeps nothing; write sqlite:///FILE")
    return f"sqlite+aiosqlite://{value.partition('://')[2]}"


def _postgres_url(parts: SplitResult) -> tuple[str, tuple[str, ...]]:
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    dropped = tuple(key for key, _ in parameters if key in _PRISMA_ONLY)
    kept = [("sslmode" if key == "ssl" else key, text) for key, text in parameters if key not in _PRISMA_ONLY]
    query = urlencode(kept, quote_via=quote, safe="/:,")
    return _join("postgresql+asyncpg", parts.netloc, parts.path, query), dropped


def _join(scheme: str, netloc: str, path: str, query: str) -> str:
    # urlunsplit drops the empty authority of schemes it does not know, and with it SQLite's third slash.
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")
