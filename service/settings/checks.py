"""What must hold before a socket is opened: an upstream to ask, and nobody uninvited who may ask it."""

from __future__ import annotations

import ipaddress

from service.errors import ConfigurationError
from service.settings.model import Settings

#: Keys that stand in documentation and examples, in lower case: anybody would try them.
_EXAMPLES = """
    1234 12345678 admin anything change-me change_me changeme default key master master-key master_key
    my-secret-key password secret sk-0000 sk-123 sk-1234 sk-12345 sk-123456 sk-1234567890 sk-admin
    sk-changeme sk-key sk-litellm sk-litellm-master-key sk-master sk-master-key sk-my-master-key
    sk-my-special-key sk-my_special_key sk-password sk-secret sk-test sk-xxx sk-your-key
    sk-your-master-key test token your-master-key your-secret-key your_master_key
"""
_PUBLIC_KEYS = frozenset(_EXAMPLES.split())
_REMEDY = "set general_settings.master_key or INTERACTIONS_MASTER_KEY to a long random value"


def check_upstream(settings: Settings) -> None:
    """Raises `ConfigurationError` when there is neither a deployment nor the emulator to answer anything."""
    if not (settings.deployments or settings.default_deployment or settings.emulator):
        raise ConfigurationError(
            "no upstream: set GEMINI_API_KEY, or give --config FILE with a model_list, "
            "or --emulator for made-up answers without a key"
        )


def check_bind(settings: Settings) -> list[str]:
    """What should be said about who can reach this service, one line each.

    Raises `ConfigurationError` when the address is not loopback and the master key is missing or public.
    """
    local = is_loopback(settings.host)
    key = settings.master_key
    if key is None:
        if not local:
            raise ConfigurationError(
                f"general_settings.master_key: missing, so this service cannot listen on {settings.host}; "
                f"{_REMEDY}, or listen on 127.0.0.1"
            )
        return [
            f"no master key: listening on {settings.host} only, for any program on this machine; {_REMEDY}"
        ]
    if key.reveal().lower() not in _PUBLIC_KEYS:
        return []
    if not local:
        raise ConfigurationError(
            f"general_settings.master_key: publicly known, so this service cannot listen on {settings.host}; "
            f"{_REMEDY}, or listen on 127.0.0.1"
        )
    return [f"the master key is publicly known: this service listens on {settings.host} only; {_REMEDY}"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; any name but `localhost` is taken to be reachable."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
