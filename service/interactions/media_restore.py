"""Media of a conversation that is sent again: URIs that still live stay, those that have died become kept bytes.

A file of upstream lives for some days and for one key (contract 5.2, 5.5), a conversation for ever. A URI is dead when
the first interaction that names it is older than its deployment keeps files, or when the request goes to an upstream or
under a key that it was not made for. What is not a file of upstream (another web site, YouTube, ``gs://``) is not ours
to judge, and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import FailedPrecondition
from service.store.kept_media import Kept
from service.store.media import uri_digest
from service.store.records import Link, now
from service.store.store import Store
from service.upstream.deployments import Deployment, Deployments
from service.upstream.files import File, file_of, shares_files
from service.wire import ids, media

Step = dict[str, Any]
#: A link of a chain and what it adds to the conversation.
Said = tuple[Link, list[Step]]


@dataclass(frozen=True, slots=True)
class _Dead:
    """A file that upstream has no more: by which link and which URI it was named, and how it is known in the store."""

    link: Link
    uri: str
    digest: bytes
    #: Whether it is upstream's for certain: then there is no going on without it.
    certain: bool


class Media:
    """Puts kept bytes in the place of URIs that have died; ``largest`` bounds the bytes of one conversation."""

    def __init__(self, store: Store, deployments: Deployments, largest: int) -> None:
        self._store = store
        self._deployments = deployments
        self._largest = largest

    async def restored(self, project_id: bytes, deployment: Deployment, links: Sequence[Said]) -> list[Step]:
        """The steps of all links, oldest first, as this deployment can read them; nothing given is changed.

        Asks the store once, and only if something has died. Raises :class:`FailedPrecondition` naming the link and the
        URI of what has died and is not kept, and when what is kept is too large.
        """
        dead = self._dead(project_id, deployment, links)
        if not dead:
            return [step for _, said in links for step in said]
        digests = dict.fromkeys(entry.digest for entry in dead.values())
        kept = await self._store.media.load(digests, self._largest)
        self._check(dead, kept)
        return [
            step for _, said in links for step in media.changed(said, lambda it: _revived(it, dead, kept))
        ]

    def _dead(self, project_id: bytes, deployment: Deployment, links: Sequence[Said]) -> dict[str, _Dead]:
        """What has died, by its URI."""
        dead: dict[str, _Dead] = {}
        first_named: dict[str, int] = {}
        for link, uri, file in _files(links):
            since = first_named.setdefault(file.canonical, link.created_at)
            if uri in dead:
                continue
            owner = self._deployments.by_id(link.deployment_id)
            if owner is None:
                # Whose file this was cannot be told any more; on this deployment's own upstream it was another key's.
                certain = file.is_on(deployment)
            elif not file.is_on(owner) or (shares_files(owner, deployment) and _lives(owner, since)):
                continue
            else:
                certain = True
            dead[uri] = _Dead(link, uri, uri_digest(project_id, file.canonical), certain)
        return dead

    def _check(self, dead: dict[str, _Dead], kept: dict[bytes, Kept]) -> None:
        for entry in dead.values():
            if entry.certain and entry.digest not in kept:
                raise FailedPrecondition(
                    "The conversation cannot be rebuilt for upstream, which has lost it: the interaction "
                    f"{ids.to_text(entry.link.id)} names the file {entry.uri[:500]!r}, which upstream has no more, or "
                    "gives to another key only, and its bytes were not kept (general_settings.keep_media). Start anew "
                    "without 'previous_interaction_id'."
                )
        if any(entry.body is None for entry in kept.values()):
            size = sum(entry.size for entry in kept.values())
            raise FailedPrecondition(
                "The conversation cannot be rebuilt for upstream, which has lost it: the files that it names have "
                f"{size} bytes, and {self._largest} are allowed (general_settings.max_rebuild_bytes). Start anew "
                "without 'previous_interaction_id', from a summary."
            )


def _files(links: Sequence[Said]) -> Iterator[tuple[Link, str, File]]:
    for link, said in links:
        if media.may_refer(link.request, link.response):
            for content in media.references(said):
                file = file_of(content["uri"])
                if file is not None:
                    yield link, content["uri"], file


def _lives(owner: Deployment, since: int) -> bool:
    return now() - since < owner.settings.file_retention * 1_000_000


def _revived(content: dict[str, Any], dead: dict[str, _Dead], kept: dict[bytes, Kept]) -> dict[str, Any]:
    entry = dead.get(content["uri"])
    found = kept.get(entry.digest) if entry is not None else None
    if found is None or found.body is None:
        return content
    return media.with_bytes(content, found.body, found.mime_type)
