"""Showing a configuration never shows what must stay secret."""

from __future__ import annotations

from pathlib import Path

import yaml

from service.settings import Secret, load, show_config

CONFIG = """
model_list:
  - model_name: flash
    litellm_params: {model: gemini/gemini-2.5-flash, api_key: upstream-secret, rpm: 5}
router_settings: {fallbacks: [{flash: [gemini/gemini-2.5-flash]}]}
general_settings: {master_key: master-secret, database_url: "postgres://u:db-secret@h/d"}
"""


def test_secrets_are_stars_and_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    text = show_config(load(str(path), {}).settings)
    assert "-secret" not in text
    shown = yaml.safe_load(text)
    (entry,) = shown["model_list"]
    assert entry["model_name"] == "flash"
    assert entry["litellm_params"]["model"] == "gemini/gemini-2.5-flash"
    assert entry["litellm_params"]["api_key"] == "***"
    assert entry["litellm_params"]["rpm"] == 5
    assert shown["router_settings"]["fallbacks"] == {"flash": ["gemini/gemini-2.5-flash"]}
    assert shown["general_settings"]["master_key"] == "***"
    assert shown["general_settings"]["database_url"] == "postgresql+asyncpg://u:***@h/d"


def test_the_sections_shown_are_those_a_file_may_hold(tmp_path: Path) -> None:
    shown = yaml.safe_load(show_config(load(None, {}).settings))
    sections = {name: shown[name] for name in ("router_settings", "litellm_settings", "general_settings")}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    assert load(str(path), {}).settings == load(None, {}).settings


def test_the_default_deployment_is_shown() -> None:
    shown = yaml.safe_load(show_config(load(None, {"GEMINI_API_KEY": "very-secret"}).settings))
    assert shown["default_deployment"]["litellm_params"]["api_key"] == "***"


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("value")
    assert f"{secret} {secret!r}" == "*** Secret(***)"
    assert secret.reveal() == "value"
    assert secret == Secret("value")
    assert secret != Secret("other")
    assert secret != "value"
    assert hash(secret) == hash(Secret("value"))
