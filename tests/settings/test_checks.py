"""Who may reach the service, and with what it can answer."""

from __future__ import annotations

import pytest

from service.errors import ConfigurationError
from service.settings import Secret, Settings, check_bind, check_upstream, load


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "::ffff:127.0.0.1"]
)
def test_loopback_needs_no_key_and_says_so(host: str) -> None:
    (notice,) = check_bind(Settings(host=host))
    assert "no master key" in notice
    assert host in notice
    assert "INTERACTIONS_MASTER_KEY" in notice


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", "::ffff:10.0.0.1", "0"])
@pytest.mark.parametrize("key", [None, "sk-1234", "SK-1234567890", "changeme"])
def test_anywhere_else_needs_a_key_nobody_knows(host: str, key: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"^general_settings\.master_key: ") as caught:
        check_bind(Settings(host=host, master_key=Secret(key) if key else None))
    assert "INTERACTIONS_MASTER_KEY" in str(caught.value)
    assert key is None or key not in str(caught.value)


def test_a_known_key_is_fine_on_loopback() -> None:
    (notice,) = check_bind(Settings(master_key=Secret("sk-1234")))
    assert "publicly known" in notice


def test_a_private_key_needs_no_notice() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        assert check_bind(Settings(host=host, master_key=Secret("sk-0Zk2vY7qLw"))) == []


def test_without_an_upstream_there_is_nothing_to_serve() -> None:
    with pytest.raises(ConfigurationError, match=r"GEMINI_API_KEY.*--config.*--emulator"):
        check_upstream(Settings())
    check_upstream(Settings(emulator=True))
    check_upstream(load(None, {"GEMINI_API_KEY": "k"}).settings)
