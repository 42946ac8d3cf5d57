"""Answers without a length to clients that know no chunks."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import Gateway


@pytest.mark.parametrize("wish", ["", "Connection: keep-alive\r\n"])
async def test_an_export_ends_with_its_connection(gateway: Gateway, wish: str) -> None:
    made = await gateway.ask()
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/export HTTP/1.0\r\nHost: localhost\r\n{wish}\r\n".encode())
    async with asyncio.timeout(20):
        told = await reader.read()
    head, _, lines = told.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert [made.id.encode() in line for line in lines.splitlines()] == [True, True]
    assert b'"manifest"' in lines.splitlines()[-1]
    writer.close()
    await writer.wait_closed()
