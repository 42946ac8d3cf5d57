"""How tasks that work in the background are ended."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service import tasks


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN", 0.01)
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost == 3:
                    raise
                lost += 1

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    await tasks.stop(task)
    assert (lost, task.cancelled()) == (3, True)


async def test_what_a_task_failed_with_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("gone")

    task = asyncio.create_task(failing(), name="watch")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await tasks.stop(task)
    assert "watch ended with a failure" in caplog.text
