"""Reads how webhooks are signed and delivered, and which addresses they may go to."""

from __future__ import annotations

import ipaddress
from typing import Final

from service.errors import ConfigurationError
from service.settings.model import Network
from service.settings.secret import Secret
from service.settings.section import Section
from service.settings.values import describe, flag
from service.webhooks.secrets import is_secret

_MOST_SECRETS: Final = 2


def read_secrets(section: Section, key: str) -> tuple[Secret, ...]:
    """The secrets, the newest first; in one string they are divided by spaces.

    Raises :class:`~service.errors.ConfigurationError` naming the key.
    """
    found = [part for text in section.strings(key) or () for part in text.split()]
    if len(found) > _MOST_SECRETS or not all(is_secret(secret) for secret in found):
        raise ConfigurationError(
            f"{section.name(key)}: not a secret that can sign webhooks; write 'whsec_' and the base64 "
            "of 24 to 64 random bytes, and behind it another one if that is being rotated out"
        )
    return tuple(Secret(secret) for secret in found)


def read_allow_private(section: Section, key: str) -> bool | tuple[Network, ...]:
    """Whether webhooks may go to addresses that are not public, or to which of them; raises as :func:`read_secrets`."""
    value = section.value(key)
    if value is None or value == "":
        return False
    chosen = flag(value)
    if chosen is not None:
        return chosen
    name = section.name(key)
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
