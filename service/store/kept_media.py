"""The media of conversations as the domain sees them: keep, find, load, and what is still to be fetched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from service.store import media
from service.store.entries import Write
from service.store.records import now
from service.store.remit import Remit
from service.store.statement import Fetch
from service.store.writer import Writer

#: Seconds that media wait for a database that cannot be written; they can be fetched again.
_PATIENCE: Final = 30.0
_FIRST_KEY: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Known:
    """Media that the project has: which bytes, and their type."""

    content_id: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Media with their bytes; None where all that were asked for at once would be too many."""

    mime_type: str
    size: int
    body: bytes | None


class KeptMedia:
    """Reads and writes of media; a digest (:func:`service.store.media.uri_digest`) belongs to one project.

    Every method raises :class:`~service.errors.ServiceUnavailable` when the database cannot be used.
    """

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer

    async def keep(self, key: bytes, uri: bytes, known: Known, body: bytes) -> None:
        """Commit bytes and that the interaction names them by this URI; bytes that are there are not written again."""
        content = (media.KEEP_CONTENT, (known.content_id, len(body), body, now()))
        await self._put(content, *_reference(key, uri, known))

    async def refer(self, key: bytes, uri: bytes, known: Known) -> None:
        """Commit that one more interaction names these bytes; does nothing when they were deleted meanwhile."""
        await self._put(*_reference(key, uri, known))

    async def find(self, uri: bytes) -> Known | None:
        """What the project has under this URI."""
        rows = await self._fetch(media.FIND_MEDIA, {"uri_digest": uri})
        return Known(*rows[0]) if rows else None

    async def of(self, key: bytes) -> set[bytes]:
        """The URIs under which this interaction's media are kept."""
        return {uri for (uri,) in await self._fetch(media.MEDIA_OF, {"id": key})}

    async def load(self, uris: Collection[bytes], most: int) -> dict[bytes, Kept]:
        """What is kept under these URIs, in one query; without the bytes if there are more than ``most`` of them."""
        if not uris:
            return {}
        rows = await self._fetch(media.LOAD_MEDIA, {"digests": b"".join(uris), "most": most})
        return {uri: Kept(mime_type, size, body) for uri, mime_type, size, body in rows}

    async def want(self, key: bytes, due_at: int) -> None:
        """Note that this interaction's media are being fetched: whoever finds the note after ``due_at`` takes over."""
        await self._put((media.WANT_MEDIA, (key, due_at)))

    async def settle(self, key: bytes) -> None:
        """Forget that note: there is nothing more to fetch."""
        await self._put((media.SETTLE_MEDIA, (key,)))

    async def due(self, remit: Remit, at: int) -> list[tuple[bytes, bytes, int]]:
        """Interactions in this remit whose media nobody has finished fetching.

        Each with its id, its project, and how often it was begun again.
        """
        rows = await self._fetch(media.DUE_MEDIA, {"now": at, **remit._asdict()})
        return [(key, project_id, tries) for key, project_id, tries in rows]

    async def sweep(self) -> None:
        """Delete what no interaction needs, where a fetch and an erase have met."""
        after = _FIRST_KEY
        while page := await self._fetch(media.LEFT_BEHIND, {"after": after}):
            left = [key for key, is_left in page if is_left]
            await self._put(
                *((statement, (key,)) for key in left for statement in media.ERASED_WITH_INTERACTION)
            )
            after = page[-1][0]
        after = b""
        while page := await self._fetch(media.ORPHANS, {"after": after}):
            # Where another process has just named them, they are no orphans and stay.
            orphans = [content_id for content_id, is_orphan in page if is_orphan]
            moment = now()
            await self._put(
                *((media.TOUCH_CONTENT, (content_id, moment)) for content_id in orphans),
                *((media.DELETE_ORPHANS, (content_id,)) for content_id in orphans),
            )
            after = page[-1][0]

    async def _put(self, *writes: Write) -> None:
        if writes:
            await self._writer.put(*writes, patience=_PATIENCE, shed=True)


def _reference(key: bytes, uri: bytes, known: Known) -> tuple[Write, Write]:
    moment = now()
    return (
        (media.TOUCH_CONTENT, (known.content_id, moment)),
        (media.KEEP_REFERENCE, (key, uri, known.content_id, known.mime_type, moment)),
    )
