from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from service.webhooks.destinations import Destinations

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]
PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.0.192",
    "168.63.129.16",
    "100.100.100.200",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:100.64.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001:db8::1",
    "2001:0:a00:1::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "::ffff:0:10.0.0.1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Destinations().allows(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_all_others_are_not(address: str) -> None:
    assert not Destinations().allows(ip_address(address))
    assert not Destinations([]).allows(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_all_can_be_allowed(address: str) -> None:
    assert Destinations(private=True).allows(ip_address(address))


def test_a_network_can_be_allowed() -> None:
    destinations = Destinations([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    assert destinations.allows(ip_address("10.9.9.9"))
    assert destinations.allows(ip_address("::ffff:10.9.9.9"))
    assert destinations.allows(ip_address("fd00::1"))
    assert not destinations.allows(ip_address("192.168.0.1"))
    assert not destinations.allows(ip_address("127.0.0.1"))
