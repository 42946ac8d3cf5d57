"""Which addresses webhooks may go to: whatever a client names, no request reaches this network from inside.

What counts is the address that a socket is about to connect to, whichever way it was found: a name is resolved once,
and every address of it is looked at here between resolution and connection, so that no second answer of a name server
can bring in another one. Addresses that carry an IPv4 address (mapped, 6to4, NAT64) are judged by that as well.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from service.errors import InvalidRequest
from service.wire.webhooks import WebhookConfig

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: All of IPv6 that is routed (RFC 4291 2.4); what else is special stands in the registry that ``ipaddress`` knows.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
#: What the registry holds for protocols, and some older Pythons for public (RFC 6890), and addresses of the host that
#: a machine runs on: clouds answer there with what only the machine itself is to know.
_OF_THE_NETWORK: Final = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("168.63.129.16/32"))
#: The well-known prefix of translators to IPv4 (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: Tunnels that end wherever the address says (RFC 3056, RFC 4380).
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")


class ForbiddenAddress(OSError):
    """The receiver's address is one that webhooks do not go to."""


class Destinations:
    """Judges addresses; ``private`` allows all, or names networks that are allowed though they are not public."""

    def __init__(self, private: bool | Sequence[Network] = False) -> None:
        self._everything = private is True
        self._allowed = () if isinstance(private, bool) else tuple(private)

    def allows(self, address: Address) -> bool:
        """Whether webhooks may go to this address."""
        if self._everything:
            return True
        return all(self._is_public(form) or self._is_named(form) for form in _forms(address))

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address that is about to be connected to; raises :class:`ForbiddenAddress`."""
        family, kind, protocol, _, where = info
        if not self.allows(ipaddress.ip_address(str(where[0]).partition("%")[0])):
            raise ForbiddenAddress(
                f"webhooks do not go to {where[0]}, which is not a public address; general_settings."
                "webhook_allow_private can allow it"
            )
        return socket.socket(family, kind, protocol)

    def check(self, config: WebhookConfig) -> None:
        """Refuse what can be seen to be forbidden without asking for a name; raises :class:`InvalidRequest`."""
        for place, uri in enumerate(config.uris):
            host = urlsplit(uri).hostname or ""
            address = _literal(host)
            if host.rstrip(".").lower() == "localhost":
                address = ipaddress.ip_address("127.0.0.1")
            if address is not None and not self.allows(address):
                raise InvalidRequest(
                    f"The value is invalid for 'webhook_config.uris[{place}]'. Webhooks are delivered to public "
                    "addresses only; name one, or have general_settings.webhook_allow_private set."
                )

    def _is_public(self, address: Address) -> bool:
        if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
            return False
        if isinstance(address, ipaddress.IPv4Address):
            return not any(address in network for network in _OF_THE_NETWORK)
        return address in _GLOBAL_UNICAST

    def _is_named(self, address: Address) -> bool:
        return any(address in network for network in self._allowed)


def _forms(address: Address) -> Iterator[Address]:
    """The addresses that a packet to this one may end at; where it is only a wrapping, what is in it."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address
        if address in _6TO4:
            yield ipaddress.IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
        elif address in _TEREDO and address.teredo is not None:
            yield from address.teredo


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # What a resolver takes for an address though it is not written as one: 2130706433, 0x7f.1, 127.1.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
