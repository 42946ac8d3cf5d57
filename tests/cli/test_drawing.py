"""`chain` on a terminal: long conversations and those that branch show every id."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.cli.drawing import drawn
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated

ROOT = Path(__file__).parents[2]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


async def shown(gateway: Gateway, name: str, columns: int) -> list[str]:
    """The lines of the command on a terminal that is so wide, without their colours."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "chain", name, "--url", gateway.url,
        stdout=slave, cwd=ROOT, env=environment,
    )  # fmt: skip
    os.close(slave)
    text = await asyncio.to_thread(_read, master)
    assert await process.wait() == 0
    return COLOURS.sub("", text).splitlines()


def _read(master: int) -> str:
    data = b""
    # A terminal that nobody writes to any more cannot be read.
    with suppress(OSError):
        while piece := os.read(master, 65_536):
            data += piece
    os.close(master)
    return data.decode()


async def conversation(gateway: Gateway, turns: int, previous: str | None = None) -> list[str]:
    names = [] if previous is None else [previous]
    for _ in range(turns):
        follows = {"previous_interaction_id": names[-1]} if names else {}
        names.append((await gateway.ask("On", **follows)).id)
    return names


async def test_a_straight_line_of_turns_is_not_indented(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream)
    names = await conversation(gateway, 51)
    lines = await shown(gateway, names[25], 80)
    marks = ["○"] * 25 + ["●"] + ["○"] * 25
    assert [line[:32] for line in lines] == [
        f"{mark} {name}" for mark, name in zip(marks, names, strict=True)
    ]
    assert all(len(line) <= 80 for line in lines)


async def test_what_branches_off_is_indented(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await start_gateway(upstream)
    first, second, third = await conversation(gateway, 3)
    _, other, more = await conversation(gateway, 2, first)
    (_, aside) = await conversation(gateway, 1, other)
    lines = await shown(gateway, first, 80)
    assert [line.split(" completed")[0] for line in lines] == [
        f"● {first}",
        f"├─○ {second}",
        f"│ ○ {third}",
        f"○ {other}",
        f"├─○ {more}",
        f"○ {aside}",
    ]
    narrow = "".join(await shown(gateway, first, 20))
    assert all(name in narrow for name in (first, second, third, other, more, aside))


def test_a_conversation_that_branches_at_every_turn_needs_few_columns() -> None:
    comb = [(number, number + 1) for number in range(500)] + [
        (number, number + 1_000) for number in range(500)
    ]
    binary = [(number // 2, number) for number in range(2, 1_024)]
    assert _widest(comb, 0) <= 2
    assert _widest(binary, 1) <= 18


def _widest(edges: Sequence[tuple[int, int]], root: int) -> int:
    children: dict[str | None, list[dict[str, str]]] = {}
    for parent, child in edges:
        children.setdefault(str(parent), []).append({"id": str(child)})
    turns = list(drawn({"id": str(root)}, children))
    assert len({turn.one["id"] for turn in turns}) == len(turns) == len(edges) + 1
    return max(len(turn.guides) for turn in turns)
