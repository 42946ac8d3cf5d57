"""Lists that fetch their pages as they are iterated over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

from service.sdk.filters import InteractionPage, InteractionSummary


class InteractionList:
    """The interactions that match, without their content: its first page, and by iterating all of them.

    A page is fetched when the one before it is through, so what is not iterated over is not fetched.
    """

    def __init__(self, fetch: Callable[[str | None], InteractionPage]) -> None:
        """Fetch the first page."""
        self._fetch = fetch
        self._first = fetch(None)

    @property
    def interactions(self) -> list[InteractionSummary]:
        """Those of the first page."""
        return self._first.interactions

    @property
    def next_cursor(self) -> str | None:
        """What to pass as ``cursor`` for the page behind the first one; None when there is none."""
        return self._first.next_cursor

    def pages(self) -> Iterator[InteractionPage]:
        """All pages."""
        page = self._first
        yield page
        while page.next_cursor is not None:
            page = self._fetch(page.next_cursor)
            yield page

    def __iter__(self) -> Iterator[InteractionSummary]:
        for page in self.pages():
            yield from page.interactions


class AsyncInteractionList:
    """The interactions that match, without their content: all of them by ``async for``, the first page by ``await``."""

    def __init__(self, fetch: Callable[[str | None], Awaitable[InteractionPage]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, None, InteractionPage]:
        return self._fetch(None).__await__()

    async def pages(self) -> AsyncIterator[InteractionPage]:
        """All pages."""
        page = await self._fetch(None)
        yield page
        while page.next_cursor is not None:
            page = await self._fetch(page.next_cursor)
            yield page

    async def __aiter__(self) -> AsyncIterator[InteractionSummary]:
        async for page in self.pages():
            for interaction in page.interactions:
                yield interaction
