"""The examples of a document: its fenced blocks, and the commands of those that are for a shell.

`sh`, `bash` and `shell` blocks hold commands; in `console` blocks they follow a `$ ` and the rest is output.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCED = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_SHELL = frozenset({"sh", "bash", "shell"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block and the line of the document that it begins on."""

    language: str
    text: str
    line: int


def blocks(document: str) -> Iterator[Block]:
    """Every fenced block that names a language."""
    for found in _FENCED.finditer(document):
        yield Block(found[1], found[2], document.count("\n", 0, found.start(2)) + 1)


def commands(document: str) -> list[str]:
    """Every shell command of a document in order, each with its continuation lines; comments are left out."""
    return [command for block in blocks(document) for command in _commands(block)]


def words(command: str) -> list[str]:
    """The words of a command without the variables that are set for it."""
    split = shlex.split(command)
    while split and _ASSIGNMENT.match(split[0]):
        del split[0]
    return split


def _commands(block: Block) -> Iterator[str]:
    if block.language == "console":
        lines = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    elif block.language in _SHELL:
        lines = block.text.splitlines()
    else:
        return
    pending = ""
    for line in lines:
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending += line + "\n"
        if _is_whole(pending):
            yield pending.strip()
            pending = ""
    assert not pending, f"the block on line {block.line} ends inside a command: {pending}"


def _is_whole(text: str) -> bool:
    if text.endswith("\\\n"):
        return False
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True
