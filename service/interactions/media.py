"""Keeps the media that interactions name by a URI of upstream, while upstream still has them.

After an interaction's outcome is committed, what it names is fetched in the background: no answer waits for it, and
nothing that goes wrong with it reaches the caller. With the outcome a note is committed, and taken back when nothing
is left to do: what one process did not begin or finish, any process finds by that. What upstream refuses for good is
logged and given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from service.errors import ServiceError
from service.interactions.deadlines import Deadlines
from service.interactions.outcomes import steps_of
from service.store.kept_media import KeptMedia, Known
from service.store.media import content_digest, uri_digest
from service.store.records import Record, now
from service.store.store import Store
from service.tasks import stop
from service.upstream.deployments import Deployment, Deployments
from service.upstream.files import File, FileRefused, Files, FileUnavailable, file_of
from service.wire import codec, ids, legacy, media, steps

logger = logging.getLogger(__name__)

_WORKERS: Final = 4
#: Interactions that may wait; more are not waited for.
_QUEUE: Final = 10_000
#: Seconds before a file is asked for again; after the last, it is left to the sweep.
_PAUSES: Final = (0.5, 2.0)
#: Seconds after which an interaction whose media are not all there is begun again, and between two looks for such.
_DUE: Final = 600.0
_SWEEP: Final = 120.0
#: How often an interaction is begun again; each time waits longer, in all for most of the life of a file.
_TRIES: Final = 20
_UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Errand:
    """An interaction to look through; ``tries`` is how often it was begun again, None the first time."""

    key: bytes
    project_id: bytes
    tries: int | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    """A file that an interaction names, and its type as far as the content tells it."""

    file: File
    mime_type: str | None


class MediaKeeper:
    """One per process; owns the tasks that fetch."""

    def __init__(self, store: Store, deployments: Deployments, deadlines: Deadlines, files: Files) -> None:
        self._store = store
        self._media: KeptMedia = store.media
        self._deployments = deployments
        self._deadlines = deadlines
        self._files = files
        self._queue: asyncio.Queue[_Errand] = asyncio.Queue(_QUEUE)
        #: One at a time for each interaction and for each file, so that the second finds what the first has kept.
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._workers: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch, and to look for what was left over."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(), name="media") for _ in range(_WORKERS)]
        self._looking = loop.create_task(self._look(), name="media-sweep")

    async def close(self, patience: float) -> None:
        """Fetch for ``patience`` seconds what is waiting, then stop; another process takes over the rest."""
        if self._looking is not None:
            await stop(self._looking)
            try:
                async with asyncio.timeout(patience):
                    await self._queue.join()
            except TimeoutError:
                logger.warning("not all media are fetched yet; the rest is left to a later process")
        await stop(*self._workers)
        try:
            while not self._queue.empty():
                await self._media.want(self._queue.get_nowait().key, now())
        except ServiceError as error:
            logger.error("the media of %d interactions are not kept: %s", self._queue.qsize() + 1, error)

    def due(self, *bodies: bytes | None) -> int | None:
        """The time for the note of an interaction with these bodies; None if they cannot name anything."""
        return now() + int(_DUE * 1_000_000) if media.may_refer(*bodies) else None

    def keep(self, key: bytes, project_id: bytes) -> None:
        """Keep what an interaction names that is committed with a note; returns at once."""
        try:
            self._queue.put_nowait(_Errand(key, project_id))
        except asyncio.QueueFull:
            logger.warning("the media of %s are kept later: too many are waiting", ids.to_text(key))

    async def _work(self) -> None:
        while True:
            errand = await self._queue.get()
            try:
                async with self._lock(errand.key):
                    await self._keep(errand)
            except ServiceError as error:
                logger.warning("the media of %s are not kept yet: %s", ids.to_text(errand.key), error)
            except Exception:
                logger.exception("the media of %s could not be kept", ids.to_text(errand.key))
            finally:
                self._queue.task_done()

    async def _look(self) -> None:
        while True:
            try:
                await self._begin_again()
            except ServiceError as error:
                logger.info("media that are still to be fetched cannot be looked for: %s", error)
            await asyncio.sleep(_SWEEP)

    async def _begin_again(self) -> None:
        for key, project_id, tries in await self._media.due(self._deadlines.remit(), now()):
            if tries < _TRIES:
                await self._queue.put(_Errand(key, project_id, tries))
            else:
                logger.error("not all media of %s could be fetched; given up", ids.to_text(key))
                await self._media.settle(key)

    async def _keep(self, errand: _Errand) -> None:
        record = await self._store.find(errand.project_id, errand.key)
        deployment = None if record is None else self._deployments.by_id(record.deployment_id)
        done = True
        if record is not None and deployment is not None:
            named = await self._named(record, deployment)
            left = named.keys() - await self._media.of(record.id)
            if left:
                done = await self._keep_files(errand, record, deployment, {uri: named[uri] for uri in left})
        if done:
            await self._media.settle(errand.key)

    async def _keep_files(
        self, errand: _Errand, record: Record, deployment: Deployment, named: dict[bytes, _Named]
    ) -> bool:
        """Keep these files; whether nothing is left to do."""
        if errand.tries is not None:
            await self._media.want(record.id, now() + int(_DUE * (errand.tries + 1) * 1_000_000))
        given_up = {uri for uri in named if not await self._obtain(record, deployment, uri, named[uri])}
        # Asked of the store: bytes that it had a moment ago may have been deleted with their last interaction.
        return named.keys() <= await self._media.of(record.id) | given_up

    async def _named(self, record: Record, deployment: Deployment) -> dict[bytes, _Named]:
        """The files of upstream that an interaction names, by the digests of their URIs."""
        raw = await self._store.request_of(record.id)
        named: dict[bytes, _Named] = {}
        for content, file in files_named(raw, record.response):
            if file.is_on(deployment):
                told = content.get("mime_type")
                uri = uri_digest(record.project_id, file.canonical)
                named[uri] = _Named(file, told if isinstance(told, str) else None)
        return named

    async def _obtain(self, record: Record, deployment: Deployment, uri: bytes, named: _Named) -> bool:
        """Keep one file; False when it will never be had."""
        async with self._lock(uri):
            known = await self._media.find(uri)
            if known is not None:
                await self._media.refer(record.id, uri, known)
                return True
            try:
                body, mime_type = await self._fetched(deployment, named.file)
            except FileRefused as error:
                self._tell(record, named.file, "is not kept", error)
                return False
            except FileUnavailable as error:
                self._tell(record, named.file, "is not kept yet", error)
                return True
            known = Known(
                content_digest(record.project_id, body), named.mime_type or mime_type or _UNKNOWN_TYPE
            )
            await self._media.keep(record.id, uri, known, body)
            return True

    async def _fetched(self, deployment: Deployment, file: File) -> tuple[bytes, str]:
        for pause in _PAUSES:
            try:
                return await self._files.download(deployment, file)
            except FileUnavailable:
                await asyncio.sleep(pause)
        return await self._files.download(deployment, file)

    def _lock(self, uri: bytes) -> asyncio.Lock:
        lock = self._locks.get(uri)
        if lock is None:
            lock = self._locks[uri] = asyncio.Lock()
        return lock

    def _tell(self, record: Record, file: File, what: str, error: Exception) -> None:
        logger.warning("%s of %s %s: %s", file.path, ids.to_text(record.id), what, error)


def files_named(request: bytes | None, response: bytes | None) -> Iterator[tuple[dict[str, Any], File]]:
    """The content of an interaction with these bodies that names a file of some upstream, with that file.

    Raises :class:`~service.errors.InvalidRequest` for bodies that are none of an interaction.
    """
    asked = {} if request is None else legacy.request_to_steps(codec.loads(request))
    said = steps.normalise_input(asked.get("input") or [])
    if response is not None:
        said += steps_of(codec.loads(response))
    for content in media.references(said):
        file = file_of(content["uri"])
        if file is not None:
            yield content, file
