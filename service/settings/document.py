"""A YAML file as plain values, strict where YAML itself is lenient: a key written twice is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from service.errors import ConfigurationError

_MERGE: Final = "tag:yaml.org,2002:merge"


def read_document(path: str) -> object:
    """The file's content; an empty file is an empty mapping.

    Raises `ConfigurationError`, one line, when the file is missing, unreadable or not YAML, or repeats a key.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"--config {path}: cannot be read ({reason}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--config {path}: not UTF-8 text; save it as UTF-8") from error
    return _parse(text, path)


def _parse(text: str, path: str) -> object:
    try:
        return _construct(yaml.SafeLoader(text), path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(
            f"{path}: not valid YAML{where} ({error.problem}); correct it there"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not valid YAML ({_first_line(error)}); correct it") from error


def _construct(loader: yaml.SafeLoader, path: str) -> object:
    root = loader.get_single_node()
    if root is None:
        return {}
    _refuse_duplicates(root, path)
    _refuse_circles(root, path)
    document: object = loader.construct_document(root)
    return {} if document is None else document


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _refuse_duplicates(root: yaml.Node, path: str) -> None:
    seen: set[int] = set()
    waiting = [(root, "")]
    while waiting:
        node, where = waiting.pop()
        # An anchor may be met again, even inside itself.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += _members(node, where, path)
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{where}[{position}]") for position, item in enumerate(node.value)]


def _refuse_circles(root: yaml.Node, path: str) -> None:
    """No node may hold itself: nothing could be read from it to an end."""
    around: set[int] = set()
    done: set[int] = set()
    waiting = [(root, "", False)]
    while waiting:
        node, where, left = waiting.pop()
        if left:
            around.discard(id(node))
            done.add(id(node))
        elif id(node) in around:
            line = node.start_mark.line + 1
            raise ConfigurationError(
                f"{where}: an alias of what it stands in ({path}, line {line}); write the value out"
            )
        elif id(node) not in done:
            around.add(id(node))
            waiting.append((node, where, True))
            waiting += [(child, name, False) for child, name in _children(node, where)]


def _children(node: yaml.Node, where: str) -> list[tuple[yaml.Node, str]]:
    if isinstance(node, yaml.MappingNode):
        return [(part, _dotted(where, key)) for key, value in node.value for part in (key, value)]
    if isinstance(node, yaml.SequenceNode):
        return [(item, f"{where}[{position}]") for position, item in enumerate(node.value)]
    return []


def _dotted(where: str, key: yaml.Node) -> str:
    name = key.value if isinstance(key, yaml.ScalarNode) else "?"
    return f"{where}.{name}" if where else name


def _members(node: yaml.MappingNode, where: str, path: str) -> list[tuple[yaml.Node, str]]:
    members: list[tuple[yaml.Node, str]] = []
    seen: set[str] = set()
    for key, value in node.value:
        name = f"{where}.{key.value}" if where else str(key.value)
        members.append((value, name))
        # No key of its own: several mappings may be merged, one after the other.
        if key.tag == _MERGE:
            continue
        if name in seen:
            line = key.start_mark.line + 1
            raise ConfigurationError(f"{name}: given twice ({path}, line {line}); keep one of them")
        seen.add(name)
    return members
