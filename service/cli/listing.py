"""Lists of a service, page after page."""

from __future__ import annotations

from typing import Final

from service.cli.api import Api, Json, Parameters

_PAGE: Final = 1000


async def listed(api: Api, parameters: Parameters, limit: int | None, *, replays: bool = True) -> list[Json]:
    """As many summaries of a list as there are, at most ``limit``, and without ``replays`` none of these."""
    found: list[Json] = []
    cursor: list[tuple[str, str]] = []
    while limit is None or len(found) < limit:
        # Where some are left out, a page for what is still missing could be one of none of these, again and again.
        size = _PAGE if limit is None or not replays else min(_PAGE, limit - len(found))
        page = await api.get("api/interactions", [*parameters, ("limit", str(size)), *cursor])
        found += [one for one in page["interactions"] if replays or one["replay_of"] is None]
        if page["next_cursor"] is None:
            break
        cursor = [("cursor", page["next_cursor"])]
    return found if limit is None else found[:limit]
