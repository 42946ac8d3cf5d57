"""How a follow-up reaches the conversation before it: by upstream's copy while that lives, else from the store.

Upstream's copy is used when the deployment that serves the request made it, was asked to keep it, and has not passed
its retention or been seen to have lost it. Otherwise the chain is walked to its root in one query and every link's
input and output is sent again (:mod:`service.interactions.rebuild`).
"""

from __future__ import annotations

from typing import Any

from service.errors import FailedPrecondition, ServiceError, UpstreamError
from service.interactions.checkpoints import up_to_checkpoints
from service.interactions.media_restore import Media
from service.interactions.rebuild import steps_asked, steps_of_links
from service.store.records import ANCHORS, Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployment
from service.wire import codec, legacy, media, steps, upstream_errors
from service.wire.envelope import Envelope

#: What upstream answers for an id it no longer has (contract 6).
_GONE = frozenset({400, 404, 410})
_POLL = " Poll it until it has ended."
_REMEDIES = {
    "in_progress": _POLL,
    "queued": _POLL,
    "requires_continuation": " Send its 'continuation_token' without an 'input' to let it finish.",
}


def check_anchor(parent: Record, reference: str) -> None:
    """Raise :class:`FailedPrecondition` unless a follow-up may build on this interaction."""
    if parent.status not in ANCHORS:
        raise FailedPrecondition(
            f"The interaction {reference!r} in 'previous_interaction_id' has the status {parent.status!r}; only "
            "completed, requires_action and incomplete interactions can be continued."
            + _REMEDIES.get(parent.status, "")
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
    """Rebuilds conversations from the store and judges whether upstream has lost one.

    ``max_rebuild_bytes`` bounds the body of a request that carries a whole conversation.
    """

    def __init__(self, store: Store, client: GeminiClient, media: Media, max_rebuild_bytes: int) -> None:
        self._store = store
        self._client = client
        self._media = media
        self._max_rebuild_bytes = max_rebuild_bytes

    async def rebuilt_input(
        self, parent: Record, envelope: Envelope, body: dict[str, Any], deployment: Deployment
    ) -> list[dict[str, Any]]:
        """The whole conversation up to and including the request's own input, as a step list for this deployment.

        For a request that goes on with an answer, up to what was asked: that is what its token stands beside when
        upstream did not store the answer (contract 4.7).

        Raises :class:`FailedPrecondition` or :class:`~service.errors.Aborted` naming the link that cannot be rebuilt.
        """
        chain = await self._store.chain(parent.project_id, parent.id)
        links = await up_to_checkpoints(chain, self._store.events)
        for_agent = envelope.agent is not None
        said = steps_asked(links) if envelope.continues else steps_of_links(links, for_agent=for_agent)
        conversation = await self._media.restored(parent.project_id, deployment, said)
        return conversation + steps.normalise_input(body.get("input") or [])

    async def input_again(
        self, project_id: bytes, original: bytes, body: dict[str, Any], deployment: Deployment
    ) -> list[dict[str, Any]] | None:
        """The input of a request that is sent again, where a file that it names has died since; None where none has.

        Raises :class:`FailedPrecondition` naming a file that is not kept.
        """
        said = steps.normalise_input(body.get("input") or [])
        if not any(media.references(said)):
            return None
        link = (await self._store.chain(project_id, original))[-1]
        asked = {} if link.request is None else legacy.request_to_steps(codec.loads(link.request))
        if steps.normalise_input(asked.get("input") or []) != said:
            # It was changed, and names files of today.
            return None
        revived = await self._media.restored(project_id, deployment, [(link, said)])
        return None if revived == said else revived

    def check_size(self, body: bytes, links: int) -> None:
        """Raise :class:`FailedPrecondition` for a rebuilt request that is larger than upstream takes (contract 5.5)."""
        if len(body) > self._max_rebuild_bytes:
            raise FailedPrecondition(
                f"The conversation cannot be rebuilt for upstream, which has lost it: with the {links} "
                f"interaction{'s' * (links != 1)} before it the request has {len(body)} bytes, and "
                f"{self._max_rebuild_bytes} are allowed "
                "(general_settings.max_rebuild_bytes). Start anew without 'previous_interaction_id', from a summary."
            )

    async def is_gone(
        self, error: UpstreamError, parent: Record, deployment: Deployment, *, replaceable: bool = True
    ) -> bool:
        """Whether upstream refused a create because it no longer has the parent: the recipe of contract 6.

        Upstream has been seen to answer 404 for what it had (contract 6). Unless the parent is ``replaceable`` by a
        rebuilt conversation, it is asked once more before that is believed.
        """
        if error.status not in _GONE or parent.upstream_id is None:
            return False
        named = upstream_errors.names_missing_reference(error)
        if named and replaceable:
            return True
        if not named and not upstream_errors.is_ambiguous(error):
            return False
        try:
            await self._client.get(deployment, parent.upstream_id)
        except ServiceError as answer:
            # Whoever cannot be asked has not said that the parent is gone.
            return isinstance(answer, UpstreamError) and answer.status in _GONE
        return False
