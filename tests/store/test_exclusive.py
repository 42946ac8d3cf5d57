"""The lock beside a SQLite file that one process has at a time: whoever derives has it until it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service.store.exclusive import Exclusive
from service.store.script import Script
from tests.support.store import open_store

_HOLDING = """
import sys
from service.store.exclusive import Exclusive
print(Exclusive(sys.argv[1]).is_held(), flush=True)
sys.stdin.read()
"""


def nothing() -> Script:
    yield from ()
    return 7


async def test_scripts_are_run_by_one_process_of_those_that_share_a_file(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as other:
        async with open_store(sqlite_url) as first:
            assert await first.backend.run(nothing) == 7
            assert await other.backend.run(nothing) is None
            assert await first.backend.run(nothing) == 7
        assert await other.backend.run(nothing) == 7


def test_a_process_that_is_killed_holds_it_no_more(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    mine = Exclusive(path)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not mine.is_held()
        process.kill()
    assert mine.is_held()
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_who_has_opened_a_file_that_is_taken_away_has_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first, second, third = Exclusive(path), Exclusive(path), Exclusive(path)
    assert first.is_held()
    assert not second.is_held()
    first.release()
    assert third.is_held()
    assert not second.is_held()
    third.release()


def test_where_no_file_can_be_made_nobody_is_kept_out(tmp_path: Path) -> None:
    assert Exclusive(str(tmp_path / "missing" / "lock")).is_held()
