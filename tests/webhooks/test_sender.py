"""One try: to public addresses only, whatever a name leads to, and never for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from service.webhooks.destinations import Destinations
from service.webhooks.names import Names
from service.webhooks.sender import Answer, Sender
from tests.support.raw_server import Connection, always, raw_server
from tests.support.receivers import Receiver

#: This machine.
LOCAL = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


@pytest.fixture(name="public")
async def public_fixture() -> AsyncIterator[Sender]:
    """What sends as the service does by default."""
    sender = Sender(Destinations(), timeout=5.0, user_agent="test")
    yield sender
    await sender.close()


@pytest.fixture(name="local")
async def local_fixture() -> AsyncIterator[Sender]:
    """What may send to this machine."""
    sender = Sender(Destinations(LOCAL), timeout=20.0, user_agent="test")
    yield sender
    await sender.close()


@pytest.fixture(name="hasty")
async def hasty_fixture() -> AsyncIterator[Sender]:
    """The same, which waits for nobody."""
    sender = Sender(Destinations(LOCAL), timeout=0.3, user_agent="test")
    yield sender
    await sender.close()


async def send(sender: Sender, uri: str) -> Answer:
    return await sender.send(uri, {"webhook-id": "msg_1"}, b"{}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"])
async def test_no_socket_is_opened_to_this_machine(public: Sender, hook: Receiver, host: str) -> None:
    answer = await send(public, f"http://{host}:{hook.server.port}/hook")
    assert not answer.acknowledged
    assert answer.status is None
    assert "webhook_allow_private" in (answer.error or "")
    assert hook.told == []


@pytest.mark.parametrize("host", ["2130706433", "0"])
async def test_addresses_in_other_spellings_lead_nowhere(local: Sender, hook: Receiver, host: str) -> None:
    assert not (await send(local, f"http://{host}:{hook.server.port}/hook")).acknowledged
    assert hook.told == []


@pytest.mark.parametrize("host", [f"{'a' * 64}.example", "a..example"])
async def test_what_is_no_name_leads_nowhere(local: Sender, host: str) -> None:
    answer = await send(local, f"http://{host}/hook")
    assert answer.status is None
    assert answer.error


async def test_look_ups_that_nobody_waits_for_any_more_harm_nobody(local: Sender, hook: Receiver) -> None:
    names = [asyncio.create_task(Names().resolve("localhost")) for _ in range(10)]
    await asyncio.sleep(0)
    for name in names:
        name.cancel()
    assert (await send(local, f"http://localhost:{hook.server.port}/hook")).acknowledged


async def test_a_network_can_be_allowed(local: Sender, hook: Receiver) -> None:
    answer = await send(local, f"http://localhost:{hook.server.port}/hook")
    assert (answer.status, answer.error, answer.acknowledged) == (204, None, True)


async def test_a_redirect_is_a_refusal(local: Sender) -> None:
    there = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(always(there)) as server:
        answer = await send(local, server.url)
        assert server.connections == 1
    assert answer == Answer(302, "answered 302; redirects are not followed")


async def test_a_receiver_that_says_nothing_is_not_waited_for(hasty: Sender) -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.reader.read()

    async with raw_server(silent) as server:
        assert await send(hasty, server.url) == Answer(None, "did not answer in time")


async def test_a_receiver_that_goes_on_for_ever_has_answered(local: Sender) -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await connection.reader.read()

    async with raw_server(endless) as server:
        assert (await send(local, server.url)).acknowledged


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nX: " + bytes(65_536)])
async def test_a_receiver_that_speaks_nonsense_has_not_taken_it(local: Sender, said: bytes) -> None:
    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(said)

    async with raw_server(behave) as server:
        answer = await send(local, server.url)
    assert answer.status is None
    assert answer.error


async def test_nobody_listens(local: Sender, unused_tcp_port: int) -> None:
    answer = await send(local, f"http://127.0.0.1:{unused_tcp_port}/")
    assert answer.status is None
    assert "Cannot connect" in (answer.error or "")
