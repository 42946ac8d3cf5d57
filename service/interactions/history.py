"""How a follow-up reaches the conversation before it: by upstream's copy while that lives, else from the store.

Upstream's copy is used when the deployment that serves the request made it, was asked to keep it, and has not passed
its retention or been seen to have lost it. Otherwise the chain is walked to its root in one query and every link's
input and output is sent again, verbatim, oldest first (contract 5.5).
"""

from __future__ import annotations

from typing import Any

from service.errors import FailedPrecondition, NotFound, ServiceError, StoreError, UpstreamError
from service.interactions.outcomes import steps_of
from service.store.records import ANCHORS, Link, Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployment
from service.wire import codec, ids, legacy, steps, upstream_errors

#: What upstream answers for an id it no longer has (contract 6).
_GONE = frozenset({400, 404, 410})
#: Steps a GET's timeline repeats from the request, before the model's own.
_CLIENT_STEPS = frozenset({"user_input", "function_result"})


def check_anchor(parent: Record, reference: str) -> None:
    """Raise :class:`FailedPrecondition` unless a follow-up may build on this interaction."""
    if parent.status not in ANCHORS:
        raise FailedPrecondition(
            f"The interaction {reference!r} in 'previous_interaction_id' has the status {parent.status!r}; only "
            "completed, requires_action and incomplete interactions can be continued."
        )


def upstream_copy_lives(parent: Record, deployment: Deployment) -> bool:
    """Whether this deployment should still hold the parent."""
    return (
        parent.upstream_id is not None
        and bool(parent.upstream_stored)
        and parent.upstream_gone_at is None
        and parent.deployment_id == deployment.id
        and now() - parent.created_at < deployment.settings.retention * 1_000_000
    )


class History:
    """Rebuilds conversations from the store and judges whether upstream has lost one."""

    def __init__(self, store: Store, client: GeminiClient) -> None:
        self._store = store
        self._client = client

    async def rebuilt_input(self, parent: Record, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The whole conversation up to and including the request's own input, as a step list.

        Raises :class:`FailedPrecondition` naming the link that cannot be rebuilt.
        """
        conversation: list[dict[str, Any]] = []
        for link in await self._store.chain(parent.project_id, parent.id):
            conversation += _steps_of_link(link)
        return conversation + steps.normalise_input(body.get("input") or [])

    async def is_gone(self, error: UpstreamError, parent: Record, deployment: Deployment) -> bool:
        """Whether upstream refused a create because it no longer has the parent: the recipe of contract 6."""
        if error.status not in _GONE or parent.upstream_id is None:
            return False
        if upstream_errors.names_missing_reference(error):
            return True
        if not upstream_errors.is_ambiguous(error):
            return False
        try:
            await self._client.get(deployment, parent.upstream_id)
        except ServiceError as answer:
            # Whoever cannot be asked has not said that the parent is gone.
            return isinstance(answer, UpstreamError) and answer.status in _GONE
        return False


def _steps_of_link(link: Link) -> list[dict[str, Any]]:
    name = ids.to_text(link.id)
    if link.deleted:
        raise FailedPrecondition(
            f"The conversation cannot be continued: upstream has lost it and its interaction {name} was deleted here."
        )
    if link.agent is not None:
        raise FailedPrecondition(
            f"The conversation cannot be continued: upstream has lost the state of the agent interaction {name}."
        )
    if link.request is None or link.response is None:
        raise StoreError(f"The stored interaction {name} has no content to continue from.")
    request = legacy.request_to_steps(codec.loads(link.request))
    asked = steps.normalise_input(request.get("input") or [])
    return asked + _without_input(steps_of(codec.loads(link.response)), asked)


def _without_input(timeline: list[dict[str, Any]], asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model made; a body that came by GET may begin with the input, which can hold a model's steps too."""
    if asked and timeline[: len(asked)] == asked:
        return timeline[len(asked) :]
    first = next(
        (n for n, step in enumerate(timeline) if step.get("type") not in _CLIENT_STEPS), len(timeline)
    )
    return timeline[first:]


async def resolve(store: Store, project_id: bytes, reference: str, member: str = "id") -> Record:
    """The interaction that a caller names by our id or by upstream's; raises :class:`NotFound` for all others."""
    key = ids.from_text(reference)
    record = await (
        store.find(project_id, key) if key is not None else store.find_by_upstream_id(project_id, reference)
    )
    if record is None:
        raise NotFound(f"The interaction {reference[:200]!r} in {member!r} was not found.")
    return record
