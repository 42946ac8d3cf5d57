from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import ConfigurationError
from service.settings import Settings, load, show_config
from service.webhooks import secrets


def loaded(tmp_path: Path, environ: dict[str, str] | None = None, **general: Any) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"general_settings": general}), encoding="utf-8")
    return load(str(path), environ or {}).settings


def test_by_default_nothing_private_is_told_and_a_day_is_tried(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings.webhook_allow_private is False
    assert settings.webhook_secret == ()
    assert settings.webhook_retry_for == 86_400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        ("true", True),
        (False, False),
        ("10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        (["192.168.1.7"], (ip_network("192.168.1.7/32"),)),
    ],
)
def test_private_networks_are_allowed(tmp_path: Path, value: Any, expected: Any) -> None:
    settings = loaded(tmp_path, webhook_allow_private=value)
    assert settings.webhook_allow_private == expected
    shown = yaml.safe_load(show_config(settings))["general_settings"]["webhook_allow_private"]
    assert shown == (expected if isinstance(expected, bool) else [str(network) for network in expected])


def test_times_and_concurrency_are_read(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path, webhook_timeout="5s", webhook_retry_after=1, webhook_retry_for="2h", webhook_concurrency=4
    )
    assert (settings.webhook_timeout, settings.webhook_retry_after) == (5.0, 1.0)
    assert (settings.webhook_retry_for, settings.webhook_concurrency) == (7_200.0, 4)


def test_a_secret_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    secret = secrets.generate()
    settings = loaded(tmp_path, {"HOOKS": secret}, webhook_secret="os.environ/HOOKS")
    assert [kept.reveal() for kept in settings.webhook_secret] == [secret]
    assert secret not in show_config(settings)


def test_a_secret_that_is_rotated_out_stands_behind_the_new_one(tmp_path: Path) -> None:
    new, old = secrets.generate(), secrets.generate()
    environ = {"HOOKS": f"{new} {old}"}
    for given in ([new, old], ["os.environ/HOOKS"], "os.environ/HOOKS"):
        settings = loaded(tmp_path, environ, webhook_secret=given)
        assert [kept.reveal() for kept in settings.webhook_secret] == [new, old]
        assert old not in show_config(settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("webhook_secret", "a password"),
        ("webhook_secret", "whsec_dG9vIHNob3J0"),
        ("webhook_secret", "whsec_!"),
        ("webhook_secret", " ".join(secrets.generate() for _ in range(3))),
        ("webhook_allow_private", ["10.0.0.1/8"]),
        ("webhook_allow_private", "some"),
        ("webhook_allow_private", 7),
        ("webhook_concurrency", 0),
        ("webhook_timeout", 0),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"general_settings.{key}: ") as refused:
        loaded(tmp_path, **{key: value})
    assert "a password" not in str(refused.value)
