"""``python -m bench.storage``: what a turn takes in the database when clients send the whole conversation each time.

Conversations without state, as an SDK sends them: compact JSON, about 300 characters a step, a thought with its
signature in every answer. The same conversations are stored twice: every request as a whole, and without what earlier
requests have. Bytes are those of SQLite's file, and of the tables in it with their indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from bench.dictionary import WORDS
from service.store import migrate
from service.store.codec import Codec
from service.store.engine import open_backend
from service.store.records import USAGE_FINAL, Intent, Outcome, Usage, now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT, NOBODY
from service.store.writer import Writer
from service.wire import ids

_STEP_CHARACTERS = 300
_SIGNATURE_BYTES = 200


def conversation(turns: int, image_bytes: int = 0, *, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Requests and answers of one conversation; with an image, it is in the first turn."""
    source = random.Random(seed)
    steps: list[dict[str, Any]] = []
    for number in range(turns):
        content: list[dict[str, Any]] = [{"type": "text", "text": _text(source)}]
        if image_bytes and not number:
            data = b64encode(source.randbytes(image_bytes)).decode()
            content.append({"type": "image", "mime_type": "image/png", "data": data})
        steps.append({"type": "user_input", "content": content})
        request = orjson.dumps({"model": "gemini-2.5-flash", "store": False, "input": steps})
        made: list[dict[str, Any]] = [
            {"type": "thought", "signature": b64encode(source.randbytes(_SIGNATURE_BYTES)).decode()},
            {"type": "model_output", "content": [{"type": "text", "text": _text(source)}]},
        ]
        steps += made
        yield request, orjson.dumps({"status": "completed", "model": "gemini-2.5-flash", "steps": made})


def _text(source: random.Random) -> str:
    text = ""
    while len(text) < _STEP_CHARACTERS:
        text += f"{source.choice(WORDS)} "
    return text[:_STEP_CHARACTERS]


async def stored(path: Path, told: list[list[tuple[bytes, bytes]]], *, shared: bool) -> None:
    """Store these conversations side by side, as the service does or each request as a whole."""
    url = f"sqlite:///{path}"
    await migrate.upgrade(url)
    codec = Codec()
    backend = open_backend(url, codec, pool_limit=1)
    await backend.start()
    writer = Writer(backend, limit=10_000)
    store = Store(backend, writer, codec)
    await asyncio.gather(*(_hold(store, turns, shared=shared) for turns in told))
    await writer.close()
    await backend.close()


async def _hold(store: Store, turns: list[tuple[bytes, bytes]], *, shared: bool) -> None:
    for request, response in turns:
        intent = _intent()
        await store.begin(intent, request, listed=shared)
        await store.finish(_outcome(intent.id), response)
        if await store.request_of(intent.id) != request:
            raise RuntimeError("a request did not come back as it was sent")


def _intent() -> Intent:
    return Intent(
        id=ids.mint(),
        project_id=DEFAULT_PROJECT,
        key_id=None,
        previous_id=None,
        root_id=None,
        depth=0,
        created_at=now(),
        revision=1,
        stream=False,
        background=False,
        store=False,
        model_requested="gemini-2.5-flash",
        agent=None,
        labels=None,
        deployment_id="deployment",
        upstream_stored=False,
        owner_id=NOBODY,
    )


def _outcome(key: bytes) -> Outcome:
    moment = now()
    return Outcome(
        id=key,
        deployment_id="deployment",
        upstream_id=None,
        upstream_stored=False,
        status="completed",
        model="gemini-2.5-flash",
        service_tier=None,
        http_status=200,
        error_code=None,
        error_message=None,
        attempts="[]",
        updated_at=moment,
        first_byte_at=moment,
        completed_at=moment,
        usage=Usage(USAGE_FINAL, 11, 22, 3, 4, 5, 45),
        owner_id=NOBODY,
    )


def sizes(path: Path, turns: int) -> dict[str, int]:
    """Bytes per turn: bodies of requests and answers, the rows that say what is shared, and the whole file."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        bodies = dict(connection.execute("SELECT kind, sum(length(body)) FROM payloads GROUP BY kind"))
        pages = "SELECT sum(payload) FROM dbstat WHERE name = 'inputs' OR name LIKE 'ix_inputs%'"
        ((rows,),) = connection.execute(pages)
    finally:
        connection.close()
    return {
        "requests": bodies[1] // turns,
        "inputs": rows // turns,
        "answers": bodies[2] // turns,
        "file": path.stat().st_size // turns,
    }


def compare(folder: Path, turns: int, conversations: int, image_bytes: int = 0) -> dict[str, Any]:
    """The same conversations stored both ways."""
    told = [list(conversation(turns, image_bytes, seed=seed)) for seed in range(conversations)]
    figures: dict[str, Any] = {"turns": turns, "conversations": conversations, "image_bytes": image_bytes}
    sent = sum(len(request) for one in told for request, _ in one)
    figures["sent_bytes_per_turn"] = sent // (turns * conversations)
    for name, shared in (("whole", False), ("shared", True)):
        path = folder / f"{name}-{turns}-{image_bytes}.db"
        asyncio.run(stored(path, told, shared=shared))
        figures[f"{name}_bytes_per_turn"] = sizes(path, turns * conversations)
    return figures


def run(folder: Path, turns: int = 50) -> list[dict[str, Any]]:
    """The whole benchmark: a conversation, one four times as long, and one about an image."""
    return [
        compare(folder, turns, 20),
        compare(folder, 4 * turns, 5),
        compare(folder, turns, 2, image_bytes=300_000),
    ]


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(orjson.dumps(run(Path(folder), arguments.turns), option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
