"""From what a caller names to the interaction it means: by our id or by upstream's, its own project's only."""

from __future__ import annotations

from service.errors import NotFound
from service.interactions.adoption import Adoption
from service.interactions.calls import Principal
from service.interactions.readers import Readers
from service.store.records import Record
from service.store.store import Store
from service.wire import ids


class Resolver:
    """Resolves references; with ``readers`` by ids of upstream that are told and not yet committed.

    With an ``adoption``, it resolves those that this store has never seen as well.
    """

    def __init__(
        self, store: Store, readers: Readers | None = None, adoption: Adoption | None = None
    ) -> None:
        self._store = store
        self._readers = readers
        self._adoption = adoption

    async def resolve(self, principal: Principal, reference: str, member: str = "id") -> Record:
        """The interaction; raises :class:`NotFound` naming the ``member`` of the request that holds the reference.

        Raises :class:`~service.errors.ServiceUnavailable` when it may exist at an upstream that cannot be asked now.
        """
        key = ids.from_text(reference)
        if key is not None:
            record = await self._store.find(principal.project_id, key)
        else:
            record = await self._store.find_by_upstream_id(principal.project_id, reference)
            if record is None and self._readers is not None:
                # A stream's upstream id is told a moment before it is committed.
                read = self._readers.key_of(reference)
                record = None if read is None else await self._store.find(principal.project_id, read)
            if record is None and self._adoption is not None:
                record = await self._adoption.adopt(principal, reference)
        if record is None:
            raise NotFound(
                f"The interaction {reference[:200]!r} in {member!r} was not found."
                + self._remedy(member, ours=key is not None)
            )
        return record

    def _remedy(self, member: str, *, ours: bool) -> str:
        """What a follow-up can do; it depends on the form of the id alone, and so tells nothing of what is stored."""
        if member != "previous_interaction_id":
            return ""
        rule = (
            " It must be an id that this service, or upstream through it, gave out to the same project, of an "
            "interaction that was stored and is not deleted."
        )
        if not ours and self._adoption is None:
            rule += " With general_settings.adopt_unknown, upstream would be asked for interactions made elsewhere."
        return f"{rule} Otherwise start anew without 'previous_interaction_id'."
