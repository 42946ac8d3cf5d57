"""A load generator on raw protocols: so cheap that the server under test is what limits it.

Closed loop: ``--connections`` clients send the next request when the last is answered. Open loop (``--rate``): requests
leave on schedule whatever the answers do, and latency is counted from the scheduled time, so that a stall is not
hidden. Prints one JSON object: requests, errors, seconds, requests_per_second, p50_ms, p90_ms, p99_ms, max_ms.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import orjson
import uvloop


def request_bytes(port: int, size: int, *, stream: bool = False) -> bytes:
    """A create of about ``size`` bytes as google-genai would send it."""
    text = "Tell me a short joke about programming, please, and explain it as well. "
    envelope: dict[str, str | bool] = {"model": "gemini-2.5-flash", "input": ""}
    if stream:
        envelope["stream"] = True
    missing = max(1, size - len(orjson.dumps(envelope)))
    envelope["input"] = (text * (missing // len(text) + 1))[:missing]
    body = orjson.dumps(envelope)
    head = (
        f"POST /v1beta/interactions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
        "User-Agent: google-genai-sdk/3.4.0 gl-python/3.11.7\r\nx-goog-api-key: bench\r\n"
        f"x-goog-api-client: google-genai-sdk/3.4.0 gl-python/3.11.7\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of these lie below; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Client(asyncio.Protocol):
    """One keep-alive connection; calls ``answered(client, ok)`` when a whole response has arrived."""

    def __init__(self, answered: Callable[[Client, bool], None]) -> None:
        self._answered = answered
        self._buffer = b""
        self.started = 0.0
        self.closed = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        ok = self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        self._answered(self, ok)


class Run:
    """One measurement against one port."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._request = request_bytes(port, size)
        self.latencies: list[float] = []
        self.errors = 0

    async def _connect(self, answered: Callable[[Client, bool], None]) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(answered), "127.0.0.1", self._port)
        return client

    async def closed_loop(self, connections: int, seconds: float) -> float:
        """Send as fast as answers come for ``seconds``; returns the seconds measured."""
        stop_at = time.perf_counter() + seconds

        def answered(client: Client, ok: bool) -> None:
            now = time.perf_counter()
            self.latencies.append(now - client.started)
            self.errors += not ok
            if now < stop_at:
                client.started = now
                client.transport.write(self._request)

        clients = [await self._connect(answered) for _ in range(connections)]
        started = time.perf_counter()
        for client in clients:
            client.started = time.perf_counter()
            client.transport.write(self._request)
        await asyncio.sleep(stop_at - time.perf_counter())
        elapsed = time.perf_counter() - started
        for client in clients:
            client.transport.close()
        return elapsed

    async def open_loop(self, rate: float, seconds: float) -> float:
        """Send ``rate`` requests a second on schedule; latency counts from the schedule."""
        idle: deque[Client] = deque()

        def answered(client: Client, ok: bool) -> None:
            self.latencies.append(time.perf_counter() - client.started)
            self.errors += not ok
            idle.append(client)

        for _ in range(64):
            idle.append(await self._connect(answered))
        started = time.perf_counter()
        total = int(rate * seconds)
        for number in range(total):
            due = started + number / rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            client = idle.popleft() if idle else await self._connect(answered)
            client.started = due
            client.transport.write(self._request)
        while len(self.latencies) < total and time.perf_counter() < started + seconds + 10:
            await asyncio.sleep(0.01)
        self.errors += total - len(self.latencies)
        return time.perf_counter() - started

    def report(self, elapsed: float) -> dict[str, float]:
        """The figures of this run."""
        ordered = sorted(self.latencies)

        def at(share: float) -> float:
            return round(percentile(ordered, share) * 1000, 3)

        return {
            "requests": len(self.latencies),
            "errors": self.errors,
            "seconds": round(elapsed, 3),
            "requests_per_second": round(len(self.latencies) / elapsed, 1),
            "p50_ms": at(0.50),
            "p90_ms": at(0.90),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
        }


async def measure(port: int, *, size: int, connections: int, seconds: float, rate: float) -> dict[str, float]:
    """Run one measurement and report it."""
    run = Run(port, size)
    elapsed = await (run.open_loop(rate, seconds) if rate else run.closed_loop(connections, seconds))
    return run.report(elapsed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0)
    a = parser.parse_args()
    result = uvloop.run(
        measure(a.port, size=a.size, connections=a.connections, seconds=a.seconds, rate=a.rate)
    )
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
