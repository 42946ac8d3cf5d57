"""Reads how webhooks are signed and delivered, and which addresses they may go to."""

from __future__ import annotations

import ipaddress
from typing import Final, TypedDict

from service.errors import ConfigurationError
from service.settings.model import Network, Settings
from service.settings.secret import Secret
from service.settings.section import Section
from service.settings.values import describe, flag, given
from service.webhooks.secrets import is_secret

_MOST_SECRETS: Final = 2


class WebhookSettings(TypedDict):
    """The settings of webhooks."""

    webhook_secret: tuple[Secret, ...]
    webhook_allow_private: bool | tuple[Network, ...]
    webhook_timeout: float
    webhook_retry_after: float
    webhook_retry_for: float
    webhook_concurrency: int


def read_webhooks(general: Section) -> WebhookSettings:
    """The settings of webhooks; raises `ConfigurationError` naming the key."""
    plain = Settings()
    return WebhookSettings(
        webhook_secret=_secrets(general),
        webhook_allow_private=_allow_private(general),
        webhook_timeout=given(general.seconds("webhook_timeout", above=0), plain.webhook_timeout),
        webhook_retry_after=given(general.seconds("webhook_retry_after", above=0), plain.webhook_retry_after),
        webhook_retry_for=given(general.seconds("webhook_retry_for", least=0), plain.webhook_retry_for),
        webhook_concurrency=given(general.integer("webhook_concurrency", least=1), plain.webhook_concurrency),
    )


def _secrets(general: Section) -> tuple[Secret, ...]:
    """The newest comes first; in one string they are divided by spaces."""
    found = [part for text in general.strings("webhook_secret") or () for part in text.split()]
    if len(found) > _MOST_SECRETS or not all(is_secret(secret) for secret in found):
        raise ConfigurationError(
            f"{general.name('webhook_secret')}: not a secret that can sign webhooks; write 'whsec_' and the base64 "
            "of 24 to 64 random bytes, and behind it another one if that is being rotated out"
        )
    return tuple(Secret(secret) for secret in found)


def _allow_private(general: Section) -> bool | tuple[Network, ...]:
    value = general.value("webhook_allow_private")
    if value is None or value == "":
        return False
    chosen = flag(value)
    if chosen is not None:
        return chosen
    name = general.name("webhook_allow_private")
    networks = value.split(",") if isinstance(value, str) else value
    if not isinstance(networks, list):
        raise ConfigurationError(f"{name}: expected true, false or a list of networks, got {describe(value)}")
    return tuple(_network(name, network) for network in networks)


def _network(name: str, value: object) -> Network:
    try:
        if isinstance(value, str):
            return ipaddress.ip_network(value.strip())
    except ValueError:
        pass
    raise ConfigurationError(f"{name}: {value!r} is not a network; write one like '10.0.0.0/8' or 'fd00::/8'")
