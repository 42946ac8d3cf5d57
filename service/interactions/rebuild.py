"""From the stored links of a chain to the steps that upstream is sent in place of a reference (contract 5.5).

Every link gives the steps of its input and those of its output, verbatim: unknown members, unknown types, thoughts and
signatures included. A link without input is a continuation hop; one whose input was itself a whole history has no
ancestors, so nothing is said twice. What an agent did in its sandbox cannot be sent to anybody: a model is told what
the agent was asked and what it answered in the end, and another agent's run is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from service.errors import Aborted, FailedPrecondition
from service.interactions.outcomes import steps_of
from service.interactions.timeline import end_of_input
from service.store.records import Link
from service.wire import codec, ids, legacy, steps

Step = dict[str, Any]


def steps_of_links(links: Sequence[Link], *, for_agent: bool) -> list[tuple[Link, list[Step]]]:
    """What each link adds to the conversation, oldest first.

    Raises :class:`Aborted` when an agent is to go on where an agent's sandbox is lost, and
    :class:`FailedPrecondition` for a link whose content is not there; both name the link.
    """
    lost = next((link for link in links if link.agent is not None), None) if for_agent else None
    if lost is not None:
        raise Aborted(
            f"The agent cannot go on: upstream has lost the sandbox and the hidden state of the agent interaction "
            f"{ids.to_text(lost.id)}. Start anew without 'previous_interaction_id', or follow up with a 'model', which "
            "is told what the agent was asked and what it answered."
        )
    return [(link, _steps_of_link(link, oldest=place == 0)) for place, link in enumerate(links)]


def steps_asked(links: Sequence[Link]) -> list[tuple[Link, list[Step]]]:
    """What each link adds to that which the newest one's answer was asked by, oldest first.

    Behind the question there are only continuation hops; they and what was answered so far are left out. Raises
    :class:`FailedPrecondition` as :func:`steps_of_links`.
    """
    place = len(links) - 1
    while place and _is_hop(links[place]):
        place -= 1
    link = links[place]
    request = _request(link, oldest=place == 0)
    timeline = [] if link.response is None else steps_of(codec.loads(link.response))
    return [*steps_of_links(links[:place], for_agent=False), (link, _asked(link, request, timeline))]


def _is_hop(link: Link) -> bool:
    request = {} if link.request is None else codec.loads(link.request)
    return request.get("continuation_token") is not None and not request.get("input")


def _steps_of_link(link: Link, *, oldest: bool) -> list[Step]:
    request = _request(link, oldest=oldest)
    if link.response is None:
        raise _empty(link)
    timeline = steps_of(codec.loads(link.response))
    asked = _asked(link, request, timeline)
    made = timeline[end_of_input(timeline, asked) :]
    if link.agent is not None:
        return _of_type(asked, "user_input") + _final_output(made)
    return asked + list(_acceptable(made))


def _request(link: Link, *, oldest: bool) -> dict[str, Any]:
    if link.request is None:
        raise _empty(link)
    request = legacy.request_to_steps(codec.loads(link.request))
    if oldest and request.get("previous_interaction_id") is not None:
        raise FailedPrecondition(
            f"The conversation cannot be rebuilt for upstream, which has lost it: this store has it from the "
            f"interaction {ids.to_text(link.id)} on, and not what came before. Start anew without "
            "'previous_interaction_id'."
        )
    return request


def _empty(link: Link) -> FailedPrecondition:
    why = "was deleted" if link.deleted else f"has the status {link.status!r} and no recorded output"
    return FailedPrecondition(
        f"The conversation cannot be rebuilt for upstream, which has lost it: its interaction "
        f"{ids.to_text(link.id)} {why}. Start anew without 'previous_interaction_id'."
    )


def _asked(link: Link, request: dict[str, Any], timeline: list[Step]) -> list[Step]:
    if "input" in request or "continuation_token" in request:
        return steps.normalise_input(request.get("input") or [])
    # Made elsewhere: what was asked is known only if upstream shows it (contract 3.3).
    shown = list(takewhile(_is_clients, timeline))
    if not shown:
        raise FailedPrecondition(
            f"The conversation cannot be rebuilt for upstream, which has lost it: its interaction "
            f"{ids.to_text(link.id)} was made elsewhere, and upstream did not tell what its input was. Start anew "
            "without 'previous_interaction_id'."
        )
    return shown


def _is_clients(step: Step) -> bool:
    return steps.type_of(step) in steps.CLIENT_TYPES


def _of_type(given: Iterable[Step], kind: str) -> list[Step]:
    return [step for step in given if step.get("type") == kind]


def _final_output(made: list[Step]) -> list[Step]:
    """The last run of ``model_output`` steps: an agent's report, without the work behind it."""
    end = len(made)
    while end and made[end - 1].get("type") != "model_output":
        end -= 1
    start = end
    while start and made[start - 1].get("type") == "model_output":
        start -= 1
    return made[start:end]


def _acceptable(made: list[Step]) -> Iterable[Step]:
    """All steps but thoughts with an empty signature, which upstream refuses, unless a call depends on them."""
    for place, step in enumerate(made):
        if step.get("type") == "thought" and step.get("signature") == "":
            following = made[place + 1].get("type") if place + 1 < len(made) else None
            if following != "function_call":
                continue
        yield step
