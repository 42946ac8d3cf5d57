"""The fastest upstream we can write: a raw ``asyncio.Protocol`` that answers every create with one fixed interaction.

It parses only what it needs (the end of the head and ``Content-Length``), so that what is measured is the thing in
front of it. ``--delay`` makes it as slow as a model; ``--answer`` sets the size of the answer in bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import time
from abc import abstractmethod
from collections.abc import Callable
from secrets import token_bytes
from typing import cast

import orjson
import uvloop

#: Stands in the prepared answer where each request's own id goes: ids that repeat would make an index look cheap.
ID_PLACE = "v1_" + "X" * 67


def answer_body(size: int) -> bytes:
    """One completed interaction of about ``size`` bytes, shaped like the contract's sample (3.1)."""
    interaction = {
        "created": "2026-11-20T12:25:15Z",
        "id": ID_PLACE,
        "model": "gemini-2.5-flash",
        "object": "interaction",
        "steps": [
            {"type": "thought", "signature": "EvACCu0CARFNMg" + "Qx7" * 40},
            {"type": "model_output", "content": [{"type": "text", "text": ""}]},
        ],
        "status": "completed",
        "updated": "2026-11-20T12:25:15Z",
        "service_tier": "standard",
        "usage": {
            "input_tokens_by_modality": [{"modality": "text", "tokens": 7}],
            "total_cached_tokens": 0,
            "total_input_tokens": 7,
            "total_output_tokens": 20,
            "total_thought_tokens": 22,
            "total_tokens": 49,
            "total_tool_use_tokens": 0,
        },
    }
    words = "Programmers prefer dark mode because light attracts bugs, and every bug is a story someone must tell. "
    missing = max(0, size - len(orjson.dumps(interaction)))
    interaction["steps"][1]["content"][0]["text"] = (words * (missing // len(words) + 1))[:missing]  # type: ignore[index]
    return orjson.dumps(interaction)


def unique_id() -> bytes:
    """An id that was never seen, as long as :data:`ID_PLACE`, and telling its moment as Google's do.

    It is base64 of a message that holds one token of 23 characters twice, and that is base64 of the seconds, the
    microseconds as a varint, and what is random here.
    """
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    varint = bytes((microseconds & 0x7F | 0x80, microseconds >> 7 & 0x7F | 0x80, microseconds >> 14))
    moment = seconds.to_bytes(4, "little") + varint
    token = base64.urlsafe_b64encode(moment + token_bytes(17 - len(moment)))[:23]
    return b"v1_" + base64.urlsafe_b64encode(b"\x0a\x17%b\x12\x17%b" % (token, token)).rstrip(b"=")


class Connection(asyncio.Protocol):
    """One connection; answers requests in order, without looking at them."""

    def __init__(self) -> None:
        self._buffer = b""
        self.transport: asyncio.Transport

    @abstractmethod
    def answer(self) -> None:
        """Begin the answer to the request that has arrived."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self.answer()


class MockUpstream(Connection):
    """Answers with one interaction, after a delay in seconds."""

    def __init__(self, response: bytes, delay: float) -> None:
        super().__init__()
        self._before, self._after = response.split(ID_PLACE.encode())
        self._delay = delay

    def answer(self) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._write)
        else:
            self._write()

    def _write(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"%b%b%b" % (self._before, unique_id(), self._after))


async def serve(port: int, connection: Callable[[], Connection]) -> None:
    """Serve on 127.0.0.1 until cancelled."""
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


async def run(port: int, answer: int, delay: float) -> None:
    """Answer every create with the same interaction."""
    body = answer_body(answer)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    response = head.encode() + body
    await serve(port, lambda: MockUpstream(response, delay))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=int, default=2048)
    parser.add_argument("--delay", type=float, default=0.0)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.port, arguments.answer, arguments.delay))


if __name__ == "__main__":
    main()
