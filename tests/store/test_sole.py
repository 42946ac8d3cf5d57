"""Who is alone on a SQLite file: whoever begins while no other process lives."""

from __future__ import annotations

from pathlib import Path

from service.store.sole import Sole


def test_a_successor_is_not_alone_while_a_third_one_lives(tmp_path: Path) -> None:
    first, second, successor, last = (Sole(str(tmp_path / "interactions.db")) for _ in range(4))
    assert first.take()
    assert not second.take()
    first.release()
    assert not successor.take()
    successor.release()
    second.release()
    assert last.take()
    last.release()
