"""Who is alone on a SQLite file: whoever begins while no other process lives."""

from __future__ import annotations

import time
from pathlib import Path

from service.store.sole import Sole
from service.wire import ids


def test_a_successor_is_not_alone_while_a_third_one_lives(tmp_path: Path) -> None:
    first, second, successor, last = (Sole(str(tmp_path / "interactions.db")) for _ in range(4))
    assert first.take() is not None
    assert second.take() is None
    first.release()
    assert successor.take() is None
    successor.release()
    second.release()
    assert last.take() is not None
    last.release()


def test_what_was_begun_before_is_told_from_what_begins_later(tmp_path: Path) -> None:
    before = ids.mint()
    time.sleep(0.002)
    sole = Sole(str(tmp_path / "interactions.db"))
    since = sole.take()
    sole.release()
    assert since is not None
    assert before < since < ids.mint()
