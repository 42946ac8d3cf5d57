"""The configuration in force, as a file of the same form would say it, without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import yaml

from service.settings.model import DeploymentSettings, RetentionRule, Settings
from service.settings.retention import FOREVER
from service.settings.secret import Secret
from service.settings.urls import redact_url

#: What stands in another section, or in none.
_ELSEWHERE = frozenset(
    {
        "database_url_source",
        "default_deployment",
        "deployments",
        "emulator",
        "outcome_patience",
        "request_timeout",
        "router",
    }
)


def show_config(settings: Settings) -> str:
    """YAML in the shape of the configuration file; keys and passwords are three stars."""
    document: dict[str, Any] = {
        "emulator": settings.emulator,
        "model_list": [_deployment(deployment) for deployment in settings.deployments],
        "router_settings": {
            field.name: _plain(getattr(settings.router, field.name)) for field in fields(settings.router)
        },
        "litellm_settings": {"request_timeout": settings.request_timeout},
        "general_settings": {
            field.name: _plain(getattr(settings, field.name))
            for field in fields(settings)
            if field.name not in _ELSEWHERE
        },
    }
    document["general_settings"]["database_url"] = redact_url(settings.database_url)
    if settings.default_deployment is not None:
        document["default_deployment"] = _deployment(settings.default_deployment)
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _deployment(deployment: DeploymentSettings) -> dict[str, Any]:
    params = {field.name: _plain(getattr(deployment, field.name)) for field in fields(deployment)}
    name, identifier = params.pop("model_name"), params.pop("id")
    params["model"] = f"gemini/{deployment.model}"
    return {
        "model_name": name,
        "litellm_params": {key: value for key, value in params.items() if value is not None},
        "model_info": {"id": identifier},
    }


def _retention(rule: RetentionRule) -> dict[str, object]:
    value = "" if rule.label_value is None else f"={rule.label_value}"
    said = {
        "project": rule.project,
        "label": None if rule.label is None else f"{rule.label}{value}",
        "keep": FOREVER if rule.keep is None else rule.keep,
    }
    return {key: item for key, item in said.items() if item is not None}


def _plain(value: object) -> object:
    match value:
        case Secret():
            return str(value)
        case tuple():
            return [_plain(item) for item in value]
        case IPv4Network() | IPv6Network():
            return str(value)
        case RetentionRule():
            return _retention(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value
