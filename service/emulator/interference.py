"""Faults that come between the request and its answer: waiting, refusing, spoiling, resetting."""

from __future__ import annotations

from aiohttp import web

from service.emulator.clock import Clock
from service.emulator.delivery import reset
from service.emulator.directives import Directive, Plan
from service.emulator.replies import html_reply, json_reply, wished_refusal

_BROKEN = b'{"id":"v1_broken","status":"completed","steps":[{"type":"model_'


class AnsweredError(Exception):
    """A fault has answered in place of the model."""

    def __init__(self, response: web.Response) -> None:
        self.response = response


async def precede(clock: Clock, since: float, wait: float, plan: Plan) -> None:
    """What goes wrong before the request is carried out, after the usual wait since it arrived.

    Raises AnsweredError when that is the answer.
    """
    if latency := plan.get("latency"):
        wait += latency.number("seconds")
    while wait and not await clock.wait(since + wait):
        pass
    for name in ("status", "html"):
        wish = plan.get(name)
        if wish is not None and not wish.flag("done"):
            raise AnsweredError(_instead(wish))


async def interfere(request: web.Request, plan: Plan) -> None:
    """What goes wrong after the request was carried out and before its answer is sent.

    Raises AnsweredError, or DroppedError when the connection is reset.
    """
    if not plan:
        return
    if "reset_after" in plan:
        raise reset(request)
    for name in ("status", "html", "broken_json", "empty"):
        if wish := plan.get(name):
            raise AnsweredError(_instead(wish))


def _instead(wish: Directive) -> web.Response:
    if wish.name == "status":
        return wished_refusal(wish)
    if wish.name == "html":
        return html_reply(wish.integer("code"))
    return json_reply(_BROKEN if wish.name == "broken_json" else b"", wish.integer("code"))
