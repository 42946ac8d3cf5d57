"""An unfinished interaction takes over what somebody says of it: upstream's word, or how it is ended from here."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from service.errors import StoreError
from service.interactions import outcomes
from service.interactions.ending import assembled, rest_of_log
from service.interactions.imported import is_adopted
from service.interactions.media import MediaKeeper
from service.interactions.render import identified, timestamp
from service.interactions.timeline import was_rebuilt, without_history
from service.store import kept_events
from service.store.entries import Write
from service.store.records import Outcome, Record, Usage, now
from service.store.store import Store
from service.upstream.client import Reply
from service.upstream.deployments import Deployments
from service.upstream.routing.router import Router
from service.wire import codec, ids

logger = logging.getLogger(__name__)


class TakeOver:
    """Commits how an interaction stands that this process holds and does not read."""

    def __init__(
        self, store: Store, media: MediaKeeper | None, deployments: Deployments, router: Router
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._router = router
        self._media = media

    async def word(self, record: Record, reply: Reply) -> None:
        """Commit upstream's word; raises :class:`~service.errors.Superseded` when another process holds it by now."""
        raw, body = reply.raw, reply.body
        if was_rebuilt(record.attempts):
            body = without_history(body, _parsed(await self._request(record)))
            raw = codec.dumps(body)
        if raw != record.response:
            await self._commit(replace(record, http_status=reply.status), raw, body)

    async def end(self, record: Record, body: dict[str, Any]) -> None:
        """Commit an end that upstream has no part in; raises as :meth:`word` does."""
        record = replace(record, http_status=record.http_status or 200)
        body = identified(body, record.created_at, record.model or self._asked_for(record), record.agent)
        await self._commit(record, codec.dumps(body), body, cut=True)

    async def cancel(self, record: Record) -> None:
        """Commit that it was cancelled, with what came before that; raises as :meth:`word` does."""
        so_far = await self.so_far(record)
        await self.end(record, {**so_far, "updated": timestamp(now()), "status": "cancelled"})

    async def so_far(self, record: Record, told: dict[str, Any] | None = None) -> dict[str, Any]:
        """What came of an interaction before it ends here; ``told`` is what upstream said last."""
        received: dict[str, Any] = {}
        if record.response is not None and (record.http_status or 0) < 300:
            received = codec.loads(record.response)
        received |= told or {}
        logged = await assembled(self._store.events, record)
        return {**received, **logged.told.result()} if logged.last else received

    async def _commit(self, record: Record, raw: bytes, body: dict[str, Any], *, cut: bool = False) -> None:
        log: list[Write] = []
        media_due = None
        if outcomes.is_terminal(outcomes.status_of(body)):
            asked = await self._request(record)
            log = [kept_events.forget_wishes(record.id, record.owner_id)]
            if record.stream or await self._store.events.last(record.id):
                kept, log = await rest_of_log(self._store.events, record, body, _parsed(asked), cut=cut)
                if kept is not body:
                    body, raw = kept, codec.dumps(kept)
            if self._media is not None and record.store:
                media_due = self._media.due(asked, raw)
        outcome = _outcome(record, body, self._asked_for(record), cut=cut)
        await self._store.finish(outcome, raw, media_due=media_due, log=log)
        self._router.spent(record.deployment_id, outcome.usage.total_tokens)
        if self._media is not None and media_due is not None:
            self._media.keep(record.id, record.project_id)

    def _asked_for(self, record: Record) -> str | None:
        """Whom a request was for that upstream may not have answered, as upstream spells that."""
        if record.model_requested is None:
            return record.agent
        return self._deployments.spelling(record.deployment_id, record.model_requested)

    async def _request(self, record: Record) -> bytes | None:
        """The request; None as well where it is damaged: the interaction ends all the same."""
        try:
            return await self._store.request_of(record.id)
        except StoreError as error:
            logger.error("%s ends without what it was asked: %s", ids.to_text(record.id), error)
            return None


def _parsed(request: bytes | None) -> dict[str, Any]:
    return {} if request is None else codec.loads(request)


def _outcome(record: Record, body: dict[str, Any], asked_for: str | None, *, cut: bool) -> Outcome:
    status = outcomes.status_of(body)
    terminal = outcomes.is_terminal(status)
    moment = now()
    error = outcomes.error_of(body)
    model = body.get("model", body.get("agent"))
    tier = body.get("service_tier")
    return Outcome(
        id=record.id,
        deployment_id=record.deployment_id,
        upstream_id=record.upstream_id,
        upstream_stored=record.upstream_stored,
        status=status,
        model=model if isinstance(model, str) else record.model or asked_for,
        service_tier=tier if isinstance(tier, str) else None,
        http_status=record.http_status or 200,
        error_code=error[0] if error else None,
        error_message=error[1] if error else None,
        attempts=record.attempts,
        updated_at=moment,
        first_byte_at=record.first_byte_at,
        completed_at=moment if terminal else None,
        usage=outcomes.usage_of(body, cut=cut) if terminal and not is_adopted(record.attempts) else Usage(),
        owner_id=record.owner_id,
        announced=record.background,
    )
