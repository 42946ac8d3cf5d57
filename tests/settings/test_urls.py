"""The spellings of a database URL, and what of it may be seen."""

from __future__ import annotations

import pytest

from service.errors import ConfigurationError
from service.settings import redact_url
from service.settings.urls import parse_api_base, parse_database_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite+aiosqlite:////tmp/a b.db", "sqlite+aiosqlite:////tmp/a b.db"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u@h:5432/d?ssl=require", "postgresql+asyncpg://u@h:5432/d?sslmode=require"),
        ("postgresql+asyncpg://h1:1,h2:2/d", "postgresql+asyncpg://h1:1,h2:2/d"),
        ("postgresql:///d?host=/tmp/pg", "postgresql+asyncpg:///d?host=/tmp/pg"),
    ],
)
def test_a_database_url_has_one_spelling(given: str, normal: str) -> None:
    assert parse_database_url(given, "x") == (normal, ())
    assert parse_database_url(normal, "x") == (normal, ())


def test_prismas_parameters_are_dropped_and_named() -> None:
    url, dropped = parse_database_url("postgres://h/d?connection_limit=5&pool_timeout=1&sslmode=require", "x")
    assert url == "postgresql+asyncpg://h/d?sslmode=require"
    assert dropped == ("connection_limit", "pool_timeout")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "mysql://u:secret@h/d",
            "x: 'mysql' is not a supported database; write sqlite:///FILE or postgresql",
        ),
        ("secret.db", "x: not a database URL"),
        ("sqlite:secret", "x: 'sqlite' is not a supported database"),
        ("sqlite://", "x: a database in memory keeps nothing"),
        ("sqlite:///:memory:", "x: a database in memory keeps nothing"),
        ("sqlite://secret/a.db", "x: a path follows three slashes"),
        ("sqlite:///file:a.db?uri=true", "x: SQLite takes the path of a file and no parameters"),
        ("sqlite:///a.db?mode=ro", "x: SQLite takes the path of a file and no parameters"),
        ("postgresql://", "x: no host"),
        ("postgresql://u:secret#1@h/d", "x: not a valid URL; write"),
        ("postgresql://u:secret@[::1/d", "x: not a valid URL"),
    ],
)
def test_a_bad_database_url_is_refused_without_being_shown(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_database_url(url, "x")
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql+asyncpg://u:p%40ss@h:1/d", "postgresql+asyncpg://u:***@h:1/d"),
        (
            "postgresql+asyncpg://h/d?user=u&password=p&a=b",
            "postgresql+asyncpg://h/d?user=u&password=***&a=b",
        ),
        ("sqlite+aiosqlite:////tmp/a.db", "sqlite+aiosqlite:////tmp/a.db"),
    ],
)
def test_a_shown_url_has_no_password(given: str, shown: str) -> None:
    assert redact_url(given) == shown


@pytest.mark.parametrize(
    ("given", "base", "version"),
    [
        ("https://h", "https://h", None),
        ("https://h/", "https://h", None),
        ("https://h:8/p/v1beta/", "https://h:8/p", "v1beta"),
        ("http://[::1]:80/v1", "http://[::1]:80", "v1"),
        ("https://h/v1x", "https://h/v1x", None),
        ("http://[::ffff:1.2.3.4]", "http://[::ffff:1.2.3.4]", None),
        ("http://localhost.:8", "http://localhost.:8", None),
        ("http://my_host:8", "http://my_host:8", None),
        ("http://127.0.0.1:8", "http://127.0.0.1:8", None),
        ("http://[fe80::1%25eth0]:8", "http://[fe80::1%25eth0]:8", None),
        ("https://xn--mnchen-3ya.de.", "https://xn--mnchen-3ya.de.", None),
        ("https://H.example/a%20b/v1", "https://H.example/a%20b", "v1"),
    ],
)
def test_an_api_base_loses_slash_and_version(given: str, base: str, version: str | None) -> None:
    assert parse_api_base(given, "x") == (base, version)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1.", "x: '127.0.0.1.' can be no host; write a name or an address there"),
        ("http://127.0.0.1.:8/v1", "x: '127.0.0.1.' can be no host"),
        ("http://localhost:0", "x: nothing can be reached at port 0; write another, or none"),
        ("http://[::1]:00/v1", "x: nothing can be reached at port 0"),
        ("http://[v1.a]", "x: brackets hold an IPv6 address and nothing else; write it as https://[ADDRESS]"),
        ("http://[v1.a]:8", "x: brackets hold an IPv6 address"),
        ("http://[::1]a", "x: brackets hold an IPv6 address"),
        ("http://a[::1]:8", "x: brackets hold an IPv6 address"),
    ],
)
def test_an_api_base_that_nothing_can_be_reached_at_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_api_base(url, "x")
    assert str(caught.value).startswith(message)
