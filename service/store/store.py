"""The store as the domain sees it: begin, finish, find, chain, delete. Every write returns when it is durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from service.errors import FailedPrecondition, ServiceError, ServiceUnavailable
from service.store import (
    adoption,
    aliases,
    deletion,
    deployment_states,
    idempotency,
    kept_webhooks,
    media,
    statements,
    usage,
)
from service.store.adoption import Adopted, Holder
from service.store.backend import Backend, StoreUnavailable
from service.store.chain import CHAIN, bytes_of, links_of
from service.store.codec import Codec
from service.store.deployment_states import SharedState
from service.store.entries import Write
from service.store.eraser import Eraser
from service.store.held import Held
from service.store.idempotency import KeyClaim
from service.store.kept_events import KeptEvents
from service.store.kept_holds import Hold, KeptHolds
from service.store.kept_keys import KeptKeys
from service.store.kept_media import KeptMedia
from service.store.kept_recordings import KeptRecordings, brought_in
from service.store.kept_secrets import KeptSecrets
from service.store.kept_webhooks import KeptWebhooks
from service.store.records import Intent, Link, Outcome, Record, now, storable
from service.store.replays import FIGURES, Figures
from service.store.requests import INTENT_PATIENCE, Requests
from service.store.retained import Retained
from service.store.statement import Fetch, Query
from service.store.statements import RECORD_FLAGS, RECORD_WIDTH
from service.store.tables import RESPONSE_PAYLOAD
from service.store.writer import Writer, WriterStatistics
from service.wire.webhooks import WebhookConfig

logger = logging.getLogger(__name__)

#: Seconds the caller of an outcome waits; the outcome itself is kept until it is written.
OUTCOME_PATIENCE: Final = 60.0
#: Seconds after which a database that does not answer is as good as gone.
_PROBE_TIMEOUT: Final = 2.0
#: Seconds without an answer to a batch after which the writer is stuck; a healthy one takes milliseconds.
_STALL: Final = 3.0
#: Bytes of a chain's requests and answers that are held at once, several times what upstream takes.
_MOST_CHAIN_BYTES: Final = 256 * 1024 * 1024
#: Seconds until usage is asked for that upstream did not tell with the end.
_USAGE_INTERVAL: Final = 10.0
#: The bodies of a longer chain are unpacked in a thread, so that the loop is not held up.
_LONG_CHAIN_ROWS: Final = 128


class Store:
    """Reads and writes of interactions; every read is scoped by a project (promise P6)."""

    def __init__(
        self,
        backend: Backend,
        writer: Writer,
        codec: Codec,
        *,
        usage_interval: float = _USAGE_INTERVAL,
        outcome_patience: float = OUTCOME_PATIENCE,
    ) -> None:
        self._backend = backend
        self._writer = writer
        self._codec = codec
        self._eraser = Eraser(self._fetch, writer)
        self.media = KeptMedia(self._fetch, writer)
        self.events = KeptEvents(backend, self._fetch, writer, codec)
        self.webhooks = KeptWebhooks(self._fetch, self._take, writer)
        self.secrets = KeptSecrets(self._fetch, writer)
        self.keys = KeptKeys(self._fetch, writer)
        self._requests = Requests(self._fetch, writer, codec, self.keys)
        self.held = Held(backend, self._fetch, writer)
        self.recordings = KeptRecordings(self._fetch, writer)
        self.holds = KeptHolds(self._fetch, writer)
        self.retained = Retained(backend, self._fetch, writer, self._eraser)
        self._usage_pause = int(usage_interval * 1_000_000)
        self._outcome_patience = outcome_patience

    async def begin(
        self,
        intent: Intent,
        request: bytes,
        *,
        listed: bool = False,
        claim: KeyClaim | None = None,
        webhooks: WebhookConfig | None = None,
    ) -> None:
        """Commit the intent and the request's bytes; raises :class:`ServiceUnavailable` when overloaded.

        ``listed`` says that the request's ``input`` is a list: what an earlier request of the project already has of a
        long one is not stored again. With a ``claim`` the intent is committed only if it gets the key: raises
        :class:`~service.store.idempotency.KeyTaken` otherwise. Whatever else is raised leaves the key free.
        ``webhooks`` are told of the outcome.
        """
        more = kept_webhooks.register(intent.id, webhooks)
        if claim is None and not listed:
            await self._requests.hand_in(intent, request, more)
            return
        given_up = await self._requests.begin(intent, request, listed=listed, claim=claim, more=more)
        if given_up is not None:
            await self.erase(given_up, now())

    async def reroute(self, key: bytes, owner: bytes, deployment_id: str, attempts: str, at: int) -> None:
        """Commit that the request goes to another deployment; to be done before the first byte does (promise P2).

        Raises :class:`ServiceUnavailable` when that takes too long: then nothing may be sent there.
        """
        await self._writer.put(
            (statements.REROUTE, (key, owner, deployment_id, attempts, at)),
            patience=INTENT_PATIENCE,
            shed=True,
        )

    async def finish(
        self,
        outcome: Outcome,
        response: bytes | None,
        *,
        media_due: int | None = None,
        log: Sequence[Write] = (),
        free_key: bool = False,
        refused: bool = False,
    ) -> None:
        """Commit the outcome, upstream's body and the rest of the event log; changes nothing that is already terminal.

        Usage that upstream owes is noted with it, to be asked for later.
        With ``free_key`` another interaction may have its idempotency key.

        With ``media_due`` it is noted as well that the interaction's media are to be fetched: whoever finds the note
        after that time does it. Webhooks of the interaction become due with a terminal outcome; ``refused`` says that
        its caller is told that there is no such interaction, so that nobody else is to be.

        Raises :class:`ServiceUnavailable` when that takes too long, though the outcome is still kept to be written, and
        :class:`StoreError` when it can never be: its row is refused, or the database has lost the intent. Raises
        :class:`Superseded` when another process holds the interaction: then nothing was changed.
        """
        size = None if response is None else len(response)
        writes: list[Write] = [(statements.FINISH, outcome.row(size, self._backend.place_of)), *log]
        if response is not None:
            writes.append((statements.UPSERT_RESPONSE, (outcome.id, response, outcome.owner_id)))
        if outcome.owes_usage:
            writes.append((usage.WANT_USAGE, (outcome.id, outcome.updated_at + self._usage_pause)))
        if media_due is not None:
            writes.append((media.WANT_MEDIA, (outcome.id, media_due)))
        announces = outcome.announced and outcome.completed_at is not None
        if announces:
            writes.append(kept_webhooks.end(outcome, refused=refused))
        if free_key:
            writes.append((idempotency.RELEASE_KEY, (outcome.id,)))
        await self._writer.hand_in(*writes, patience=self._outcome_patience)
        if announces:
            self.webhooks.news.set()

    async def note_status(self, key: bytes, status: str, owner_id: bytes) -> None:
        """Commit how an open interaction of this process stands now; changes nothing that another holds."""
        write = (statements.NOTE_STATUS, (key, storable(status), now(), owner_id))
        await self._writer.put(write, patience=self._outcome_patience)

    async def adopt(self, adopted: Adopted, *, media_due: int | None = None) -> None:
        """Take in an interaction that was made elsewhere, after its parent; see :mod:`service.store.adoption`.

        ``media_due`` is as for :meth:`finish`.
        Does nothing where any project has it, or has its parent instead of this one. Raises
        :class:`ServiceUnavailable` when overloaded.
        """
        writes: list[Write] = [
            (adoption.INSERT_ADOPTED, adopted.row()),
            (adoption.INSERT_ADOPTED_REQUEST, (adopted.id, adopted.request)),
            (adoption.INSERT_ADOPTED_RESPONSE, (adopted.id, adopted.response)),
        ]
        if media_due is not None:
            writes.append((media.WANT_MEDIA, (adopted.id, media_due)))
        writes += brought_in((adopted.id,))
        await self._writer.put(*writes, patience=INTENT_PATIENCE, shed=True)

    async def bring_in(self, writes: Sequence[Write], keys: Collection[bytes]) -> None:
        """Commit interactions that were made elsewhere with their keys (:mod:`service.store.bringing_in`).

        Raises :class:`ServiceUnavailable` when overloaded, and :class:`StoreError` when a row is refused.
        """
        await self._writer.put(*writes, *brought_in(keys), patience=self._outcome_patience, shed=True)

    async def mark_upstream_gone(self, key: bytes, at: int) -> None:
        """Remember that upstream has no copy of this interaction any more."""
        await self._writer.put((statements.MARK_UPSTREAM_GONE, (key, at)), patience=self._outcome_patience)

    async def delete(self, key: bytes, at: int, usage_detail: str | None) -> Sequence[Hold]:
        """Hide the interaction and erase its content, unless a follow-up needs that; a tombstone with the usage stays.

        What is kept for a follow-up is erased with the last one. The tombstone is committed before anything is erased:
        whoever builds on the interaction at the same moment is either seen here, or sees the tombstone. Returns the
        holds that stand on the interaction: then nothing is done.
        """
        while True:
            # Read first, so that it never counts a hold that was not seen.
            count = await self.holds.count()
            if holds := await self.holds.on(key):
                return holds
            await self._writer.put(
                (deletion.LOCK_HELD, (key,)),
                (deletion.TOMBSTONE, (key, at, usage_detail, count)),
                patience=self._outcome_patience,
            )
            if not await self.stands(key):
                break
        await self._writer.put(
            (deletion.DELETE_DOCUMENTS, (key,)), kept_webhooks.forget(key), patience=self._outcome_patience
        )
        await self.erase(key, at)
        return ()

    async def stands(self, key: bytes) -> bool:
        """Whether an interaction is there and not deleted.

        What a committed intent builds on, and stands after that commit, is kept for it (:mod:`service.store.deletion`).
        """
        return bool(await self._fetch(deletion.STANDS, {"id": key}))

    async def erase(self, key: bytes, at: int) -> None:
        """Erase a deleted interaction that somebody has stopped to need; a sweep does it where that fails."""
        try:
            await self._eraser.erase(key, at)
        except ServiceError as error:
            logger.warning("a deleted interaction is hidden, and will be erased by a later sweep: %s", error)

    async def sweep(self, at: int) -> None:
        """Erase what is deleted and needed by nothing, if a crash or an outage has left any; forget what is too old."""
        await self._eraser.sweep(at)
        await self.media.sweep()
        await self.keys.sweep(at)

    async def find(self, project_id: bytes, key: bytes) -> Record | None:
        """The interaction with this id, or None when the project has none that it may see."""
        return await self._find(statements.FIND, {"id": key, "project_id": project_id})

    async def recall(self, project_id: bytes, key: bytes) -> Record | None:
        """The same for who has found or made it before: also an interaction that was not to be stored."""
        return await self._find(statements.RECALL, {"id": key, "project_id": project_id})

    async def kept_for(self, project_id: bytes, child: bytes) -> Record | None:
        """What an interaction that stands follows, though it may be deleted itself, as long as it is kept for that one.

        A committed intent that follows it as well, while this is true after that commit, has it kept for itself too.
        """
        return await self._find(statements.FIND_KEPT, {"child": child, "project_id": project_id})

    async def figures(self, project_id: bytes, key: bytes) -> Figures | None:
        """What a replay of an interaction is compared with."""
        rows = await self._fetch(FIGURES, {"id": key, "project_id": project_id})
        return Figures(*rows[0]) if rows else None

    async def find_by_upstream_id(self, project_id: bytes, upstream_id: str) -> Record | None:
        """The interaction that upstream knows under this id."""
        if not upstream_id.isprintable():
            return None
        parameters = {
            "upstream_id": upstream_id,
            **aliases.places_of(upstream_id),
            "project_id": project_id,
        }
        return await self._find(statements.FIND_BY_UPSTREAM_ID, parameters)

    async def holders(self, upstream_id: str) -> list[Holder]:
        """Who has this upstream id, whichever project it is and whether or not it may see the interaction.

        The one read that no project bounds: for deciding whether an interaction may be taken in, never to be told.
        """
        parameters = {"upstream_id": upstream_id, **aliases.places_of(upstream_id)}
        return [Holder(*row) for row in await self._fetch(adoption.HOLDERS, parameters)]

    async def project_name(self, project_id: bytes) -> str | None:
        """The name of a project."""
        rows = await self._fetch(statements.PROJECT_NAME, {"id": project_id})
        return rows[0][0] if rows else None

    async def request_of(self, key: bytes) -> bytes | None:
        """The request's bytes as the client sent them; raises :class:`StoreError` when they cannot be made whole."""
        return await self._requests.whole(key)

    async def chain(
        self, project_id: bytes, key: bytes, *, most_bytes: int = _MOST_CHAIN_BYTES
    ) -> list[Link]:
        """An interaction and all its ancestors, oldest first, in one query whatever the depth.

        Raises :class:`StoreError` naming a request that cannot be made whole, and :class:`FailedPrecondition` when the
        bodies have more than ``most_bytes``, which are then never in memory.
        """
        rows = await self._fetch(CHAIN, {"id": key, "project_id": project_id, "most": most_bytes})
        if (size := bytes_of(rows)) > most_bytes:
            raise FailedPrecondition(
                f"The conversation before this request is too large to be put together: its requests and answers have "
                f"{size} bytes, and {most_bytes} can be. Start anew without 'previous_interaction_id', from a summary."
            )
        if len(rows) < _LONG_CHAIN_ROWS:
            return links_of(project_id, rows, self._codec)
        return await asyncio.to_thread(links_of, project_id, rows, self._codec)

    @property
    def fetch(self) -> Fetch:
        """Any read, for reports; no project bounds it."""
        return self._fetch

    async def share_states(self, shared: Sequence[SharedState]) -> None:
        """Tell the other processes on this database what this one knows of its deployments."""
        if shared:
            writes: list[Write] = [(deployment_states.SHARE_STATE, one.row()) for one in shared]
            await self._writer.put(*writes, patience=INTENT_PATIENCE, shed=True)

    async def shared_states(self, replica: bytes, since: int) -> list[SharedState]:
        """What all other processes have told since then, in microseconds."""
        rows = await self._fetch(deployment_states.SHARED_STATES, {"replica": replica, "since": since})
        return [SharedState(*row) for row in rows]

    async def forget_states(self, replica: bytes, before: int) -> None:
        """Drop what processes have told that are long gone."""
        writes = (deployment_states.FORGET_STATES, (replica, before))
        await self._writer.put(writes, patience=INTENT_PATIENCE, shed=True)

    @property
    def queued(self) -> int:
        """Entries that wait for the writer."""
        return self._writer.depth

    @property
    def statistics(self) -> WriterStatistics:
        """What the writer has done since the start of the process."""
        return self._writer.statistics

    async def probe(self) -> None:
        """Raise :class:`ServiceUnavailable` unless the database answers and takes what is written."""
        if self._writer.stalled_for > _STALL:
            raise ServiceUnavailable("The store cannot be written now.", retry_after=1)
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._fetch(statements.PROBE, {})
        except TimeoutError as error:
            raise ServiceUnavailable("The store cannot be read now.", retry_after=1) from error

    async def find_held(self, key: bytes) -> tuple[Record, bool] | None:
        """An interaction by its id alone, and whether it is deleted: for the process that holds it, to finish it."""
        parameters = {"id": key, "kind": RESPONSE_PAYLOAD}
        rows = await self._fetch(statements.FIND_HELD, parameters)
        return (self._record(rows[0]), rows[0][-1] is not None) if rows else None

    async def _find(self, query: Query, parameters: dict[str, Any]) -> Record | None:
        rows = await self._fetch(query, {**parameters, "kind": RESPONSE_PAYLOAD})
        return self._record(rows[0]) if rows else None

    def _record(self, row: Sequence[Any]) -> Record:
        codec, size, body = row[RECORD_WIDTH], row[RECORD_WIDTH + 1], row[RECORD_WIDTH + 2]
        members: list[Any] = [
            *row[:RECORD_WIDTH],
            None if body is None else self._codec.unpack(codec, size, body),
        ]
        for place in RECORD_FLAGS:
            members[place] = bool(members[place])
        return Record(*members)

    async def _take(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return await self._backend.take(query, parameters)
        except StoreUnavailable as error:
            logger.warning("the store cannot be written: %s", error)
            raise ServiceUnavailable("The store cannot be written now.", retry_after=1) from error

    async def _fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return await self._backend.fetch(query, parameters)
        except StoreUnavailable as error:
            logger.warning("the store cannot be read: %s", error)
            raise ServiceUnavailable("The store cannot be read now.", retry_after=1) from error
