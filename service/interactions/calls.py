"""Who calls, with what, and what one create is made of on its way to upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import orjson

from service.settings.model import History as HistorySetting
from service.store.held import Claim
from service.store.idempotency import KeyClaim
from service.store.records import NO_USAGE, Intent, Outcome, Record, Usage, now
from service.upstream.deployments import Route
from service.upstream.routing.course import NO_WISHES, Course, Stay, Wishes
from service.wire.envelope import Envelope
from service.wire.labels import NO_LABELS
from service.wire.revision import Revision

#: How revisions stand in the database.
REVISION_NUMBERS = {Revision.STEPS: 1, Revision.LEGACY: 2, Revision.EITHER: 3}


@dataclass(frozen=True, slots=True)
class Principal:
    """A project and the key that authenticated for it (None: the master key or none at all)."""

    project_id: bytes
    key_id: bytes | None = None


class Call(NamedTuple):
    """One create request as it arrived; ``upstream_headers`` are header lines that travel on as they are."""

    principal: Principal
    raw: bytes
    envelope: Envelope
    revision: Revision
    upstream_headers: bytes = b""
    #: The caller's choice for this request; None leaves it to the configuration.
    history: HistorySetting | None = None
    wishes: Wishes = NO_WISHES
    #: Labels beside those of the body, which stand above them and are not forwarded.
    labels: Mapping[str, str] = NO_LABELS
    #: The idempotency key that the interaction is to have, if it is to be made at all.
    claim: KeyClaim | None = None
    #: The interaction that this call sends again.
    replay_of: bytes | None = None


class HistoryUsed(NamedTuple):
    """How upstream was given the conversation before a request, and how many interactions that was."""

    source: Literal["upstream", "rebuilt", "none"]
    links: int


#: How, where there is none before it.
NO_HISTORY: Final = HistoryUsed("none", 0)


class Served(NamedTuple):
    """Which deployment served a create, and at which attempt."""

    deployment: str
    attempts: int


class Answer(NamedTuple):
    """A finished unary answer: an interaction in steps form under our id, ready to be rendered."""

    interaction: dict[str, Any]
    upstream_id: str | None
    history: HistoryUsed
    #: None for what was not served anew.
    served: Served | None = None
    #: Whether an earlier request with the same idempotency key has made it.
    replayed: bool = False

    @property
    def id(self) -> str:
        """Our id, as the answer carries it."""
        text: str = self.interaction["id"]
        return text


@dataclass(slots=True)
class Job:
    """One create between its intent and its outcome."""

    call: Call
    intent: Intent
    route: Route
    parent: Record | None
    #: Members of the request that upstream gets with another value, whatever its history.
    changes: dict[str, Any]
    #: The body for upstream in the steps schema.
    body: bytes
    #: Whether ``body`` names the parent's upstream copy, so that a rebuild is possible if that copy is gone.
    refers_upstream: bool
    attempts: list[dict[str, Any]] = field(default_factory=list)
    first_byte_at: int | None = None
    #: Its way through the deployments; None for what was begun by another process.
    course: Course | None = None
    #: Its place at its deployment then.
    stay: Stay | None = None
    #: Whether upstream was found to have lost what ``body`` named: the conversation travels with every later attempt.
    lost_upstream: bool = False
    #: Whether it goes on though its caller waits no more: an id was told instead of an answer.
    abandoned: bool = False

    @property
    def served(self) -> Served:
        """Where the request is, or was served."""
        return Served(self.route.deployment.id, len(self.attempts))

    def spent(self, usage: Usage | None) -> None:
        """Count what the interaction has used towards the limits of its deployment."""
        stay = self.course or self.stay
        if stay is not None and usage is not None:
            stay.spent(usage.total_tokens)

    def broke(self) -> None:
        """Its stream has broken off, which counts as a failure of its deployment; to be said once."""
        stay = self.course or self.stay
        if stay is not None:
            stay.broke()

    def end(self) -> None:
        """Upstream has nothing more to do for it: its place there is another's."""
        stay = self.course or self.stay
        if stay is not None:
            stay.end()

    @property
    def history(self) -> HistoryUsed:
        """How ``body`` gives upstream the conversation."""
        if self.parent is None:
            return NO_HISTORY
        return HistoryUsed("upstream" if self.refers_upstream else "rebuilt", self.intent.depth)

    @property
    def webhooks(self) -> dict[str, Any] | None:
        """``webhook_config`` as the resource shows it."""
        config = self.call.envelope.webhooks
        return None if config is None else config.shown()

    def told(self, message: str) -> str:
        """Upstream's words as the caller may read them: under the caller's ids and without the deployment's key."""
        if self.parent is not None and self.parent.upstream_id is not None:
            message = message.replace(
                self.parent.upstream_id, self.call.envelope.previous_interaction_id or ""
            )
        return self.route.deployment.discreet(message)

    @property
    def _asked_for(self) -> str | None:
        """The model or agent as upstream spells it."""
        return self.route.model or self.call.envelope.agent

    def claim(self, upstream_id: str | None, *, upstream_stored: bool) -> Claim:
        """What it is followed by, once upstream has it and nobody reads it."""
        intent = self.intent
        return Claim(
            intent.id,
            intent.project_id,
            intent.created_at,
            intent.stream,
            intent.background,
            self.route.deployment.id,
            upstream_id,
            upstream_stored,
        )

    def outcome(
        self,
        *,
        status: str,
        http_status: int,
        terminal: bool,
        interaction: dict[str, Any] | None = None,
        usage: Usage | None = None,
        upstream_id: str | None = None,
        error: tuple[str, str] | None = None,
    ) -> Outcome:
        """The outcome of this job as it stands now."""
        moment = now()
        intent, told = self.intent, interaction or {}
        return Outcome(
            id=intent.id,
            deployment_id=self.route.deployment.id,
            upstream_id=upstream_id,
            upstream_stored=intent.upstream_stored and upstream_id is not None,
            status=status,
            # What fails is the failure of whom it was sent to, however the caller called that.
            model=_text(told.get("model")) or _text(told.get("agent")) or self._asked_for,
            service_tier=_text(told.get("service_tier")),
            http_status=http_status,
            error_code=error[0] if error else None,
            error_message=error[1] if error else None,
            attempts=orjson.dumps(self.attempts).decode(),
            updated_at=moment,
            first_byte_at=self.first_byte_at,
            completed_at=moment if terminal else None,
            usage=usage or NO_USAGE,
            owner_id=intent.owner_id,
            announced=intent.background,
        )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
