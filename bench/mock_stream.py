"""An upstream that streams: 64 events of the contract's shape (4.1), each with the moment it was sent in its text.

The moment is ``CLOCK_MONOTONIC``, which all processes of a machine share, so whoever reads an event knows how long it
took. ``--spacing`` is the seconds between two events, ``--text`` the characters of each delta. With ``--hold 1`` the 64
events end in the middle of the answer, and nothing follows: the stream stays open.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import orjson
import uvloop

from bench.mock_upstream import ID_PLACE, Connection, serve, unique_id

EVENTS = 64
#: What a delta's text begins with: the microseconds of ``CLOCK_MONOTONIC`` when it was sent, in 16 digits.
STAMP = b"@%016d"
_STAMP_PLACE = "@" + "S" * 16
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_WORDS = " a story that someone must tell, word by word, while everybody else is waiting for it;"


def events(text: int, hold: bool) -> list[bytes]:
    """The blocks of one stream, with places for the interaction's id and the moments."""
    interaction = {
        "id": ID_PLACE,
        "status": "in_progress",
        "object": "interaction",
        "model": "gemini-2.5-flash",
    }
    usage = {
        "total_tokens": 346,
        "total_input_tokens": 11,
        "input_tokens_by_modality": [{"modality": "text", "tokens": 11}],
        "total_cached_tokens": 0,
        "total_output_tokens": 90,
        "total_tool_use_tokens": 0,
        "total_thought_tokens": 245,
    }
    moment = "2026-05-12T18:44:51Z"
    whole = {
        **interaction,
        "status": "completed",
        "usage": usage,
        "created": moment,
        "updated": moment,
        "service_tier": "standard",
    }
    beginning = [
        _block("interaction.created", interaction=interaction),
        _block("interaction.status_update", interaction_id=ID_PLACE, status="in_progress"),
        _block("step.start", index=0, step={"type": "model_output"}),
    ]
    end = [
        _block("step.stop", index=0),
        _block("interaction.completed", interaction=whole),
        b"event: done\ndata: [DONE]\n\n",
    ]
    missing = max(0, text - len(_STAMP_PLACE))
    told = _STAMP_PLACE + (_WORDS * (missing // len(_WORDS) + 1))[:missing]
    delta = _block("step.delta", index=0, delta={"text": told, "type": "text"})
    if hold:
        return beginning + [delta] * (EVENTS - len(beginning))
    return beginning + [delta] * (EVENTS - len(beginning) - len(end)) + end


def _block(kind: str, **members: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({**members, "event_type": kind}))


class StreamUpstream(Connection):
    """Answers every request with the stream."""

    def __init__(self, chunks: list[bytes], spacing: float) -> None:
        super().__init__()
        self._chunks = chunks
        self._spacing = spacing
        self._id = b""
        self._started = 0.0
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None

    def answer(self) -> None:
        self._id = unique_id()
        self._started = asyncio.get_running_loop().time()
        self._sent = 0
        self.transport.write(_HEAD)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        chunk = self._chunks[self._sent].replace(ID_PLACE.encode(), self._id)
        moment = STAMP % (time.monotonic_ns() // 1000)
        self.transport.write(chunk.replace(_STAMP_PLACE.encode(), moment))
        self._sent += 1
        if self._sent < len(self._chunks):
            due = self._started + self._sent * self._spacing
            self._timer = asyncio.get_running_loop().call_at(due, self._send)


async def run(port: int, spacing: float, text: int, hold: bool) -> None:
    """Answer every create with the same stream."""
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events(text, hold)]
    if not hold:
        chunks[-1] += _LAST_CHUNK
    await serve(port, lambda: StreamUpstream(chunks, spacing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--spacing", type=float, default=0.02)
    parser.add_argument("--text", type=int, default=64)
    parser.add_argument("--hold", type=int, choices=(0, 1), default=0)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.port, arguments.spacing, arguments.text, bool(arguments.hold)))


if __name__ == "__main__":
    main()
