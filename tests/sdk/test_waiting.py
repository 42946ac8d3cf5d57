"""How an interaction that runs is waited for when looking at it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from service import InteractionNotFound, InteractionsError, ServiceFailed
from service.sdk.errors import BadRequest, ConnectionLost, RateLimited, WaitTimeout
from service.sdk.waiting import Pace

BUSY = {"error": {"code": "service_unavailable", "message": "Busy."}}
RUNNING = {"id": "int_1", "status": "in_progress"}


def answering(*answers: tuple[int, dict[str, Any]]) -> tuple[list[str], Any]:
    """The statuses that were asked for, and a script that gives the answers in turn, the last one for ever."""
    asked: list[str] = []

    async def script(request: web.Request) -> web.StreamResponse:
        status, body = answers[min(len(asked), len(answers) - 1)]
        asked.append(request.method)
        return web.json_response(body, status=status)

    return asked, script


def test_looks_that_fail_are_repeated(scripted: Any) -> None:
    done = {"id": "int_1", "status": "completed", "steps": [{"type": "model_output", "content": "Hi"}]}
    asked, script = answering((200, RUNNING), (503, BUSY), (200, RUNNING), (200, done))
    with scripted(script) as client:
        made = client.create_interaction(model="m", input="Hello", background=True)
        assert made.wait().output_text == "Hi"
    assert asked == ["POST", "GET", "GET", "GET"]


def test_a_service_that_says_nothing_makes_no_wait_longer(scripted: Any) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            await asyncio.sleep(30)
        return web.json_response(RUNNING)

    with scripted(script) as client:
        made = client.create_interaction(model="m", input="Hello", background=True)
        with pytest.raises(WaitTimeout):
            made.wait(timeout=0.2)


def test_a_look_has_no_more_time_than_the_wait() -> None:
    assert Pace("int_1", None).look() == 60
    assert Pace("int_1", 7_200).look() == 60
    assert 4 < Pace("int_1", 5).look() <= 5
    assert Pace("int_1", 0).look() == 1


def test_what_does_not_pass_is_raised(scripted: Any) -> None:
    gone = {"error": {"code": "not_found", "message": "Gone."}}
    _, script = answering((200, RUNNING), (404, gone))
    with scripted(script) as client:
        made = client.create_interaction(model="m", input="Hello", background=True)
        with pytest.raises(InteractionNotFound, match="Gone"):
            made.wait()


def test_pauses_grow_and_obey_the_service() -> None:
    pace = Pace("int_1", None)
    pauses = [pace.seen("in_progress") for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] <= 10
    assert pace.failed(RateLimited("Slow.", retry_after=60)) == 60


def test_a_wait_gives_up_when_every_look_fails() -> None:
    pace = Pace("int_1", None)
    for _ in range(9):
        pace.failed(ConnectionLost("Lost."))
    with pytest.raises(ConnectionLost):
        pace.failed(ConnectionLost("Lost."))
    patient = Pace("int_1", None)
    for _ in range(100):
        patient.failed(ServiceFailed("Busy."))
        patient.seen("in_progress")
    with pytest.raises(BadRequest):
        patient.failed(BadRequest("No."))


def test_no_pause_is_longer_than_what_is_left() -> None:
    assert Pace("int_1", 0.1).failed(RateLimited("Slow.", retry_after=60)) <= 0.1
    with pytest.raises(WaitTimeout, match="its status is 'queued'") as caught:
        Pace("int_1", 0).seen("queued")
    assert isinstance(caught.value, InteractionsError)
