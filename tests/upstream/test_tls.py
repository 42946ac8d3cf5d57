from __future__ import annotations

from pathlib import Path

import pytest

from service.upstream.connection import ConnectFailed, Origin
from service.upstream.transport import Transport
from tests.support.raw_server import Connection, always, answer, raw_server
from tests.support.tls import self_made_certificate

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def never(connection: Connection) -> None:
    raise AssertionError("a request was sent to a server that cannot be trusted")


async def test_a_self_made_certificate_is_refused_before_anything_is_sent(
    transport: Transport, tmp_path: Path
) -> None:
    context, _ = self_made_certificate(tmp_path, "localhost")
    async with raw_server(never, context) as server:
        with pytest.raises(ConnectFailed, match=r"localhost.*certificate"):
            await transport.request(Origin("localhost", server.port, True), GET, b"secret")
        assert server.connections == 0


async def test_a_trusted_certificate_is_accepted(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = self_made_certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with raw_server(always(answer(b"hello")), context) as server:
        for _ in range(3):
            response = await transport.request(Origin("localhost", server.port, True), GET, b"")
            assert await response.read() == b"hello"
        assert server.connections == 1


async def test_a_certificate_of_another_host_is_refused(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = self_made_certificate(tmp_path, "other.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with raw_server(never, context) as server:
        with pytest.raises(ConnectFailed, match="certificate"):
            await transport.request(Origin("localhost", server.port, True), GET, b"secret")


async def test_a_server_that_speaks_no_tls_is_refused(transport: Transport) -> None:
    async def plain(connection: Connection) -> None:
        await connection.reader.read(10)
        await connection.send(answer(b"hello"))

    async with raw_server(plain) as server:
        with pytest.raises(ConnectFailed):
            await transport.request(Origin("localhost", server.port, True), GET, b"secret")
