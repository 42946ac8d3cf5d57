"""A conversation as lines for a terminal: a line of turns goes straight down, and what branches off is indented.

Where several turns follow one, that with the most turns behind it goes on in line, below the others. So every level has
at most half as many turns as the one that it branches off from, and few columns are enough for any conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from service.cli.api import Json

Children = Mapping[str | None, Sequence[Json]]


class Turn(NamedTuple):
    """One turn, with what stands before it in its line."""

    guides: str
    one: Json


def drawn(root: Json, children: Children) -> Iterator[Turn]:
    """A turn and all that follow it, in the order of their lines."""
    sizes = _sizes(root, children)
    # What stands before it, and before those that follow it in line.
    waiting = [(root, "", "")]
    while waiting:
        one, guides, below = waiting.pop()
        yield Turn(guides, one)
        following = children.get(one["id"], ())
        if not following:
            continue
        in_line = max(reversed(following), key=lambda child: sizes[child["id"]])
        waiting.append((in_line, below, below))
        branches = [child for child in following if child is not in_line]
        waiting += [(child, f"{below}├─", f"{below}│ ") for child in reversed(branches)]


def _sizes(root: Json, children: Children) -> dict[str, int]:
    """How many turns there are from each one on."""
    ordered = [root]
    for one in ordered:
        ordered += children.get(one["id"], ())
    sizes: dict[str, int] = {}
    for one in reversed(ordered):
        sizes[one["id"]] = 1 + sum(sizes[child["id"]] for child in children.get(one["id"], ()))
    return sizes
