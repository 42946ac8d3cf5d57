"""What filters mean in SQL: conditions on a row of ``interactions``, the same on both databases.

Free text is no condition of a row: :mod:`service.audit.search` knows which interactions hold it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, ColumnElement, Text, and_, false, func, literal, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from service.audit.filters import ANY, Bounds, Choice, Filters, Label
from service.store.tables import Key, api_keys, interactions, projects
from service.wire import ids

_HIGHEST: Final = b"\xff" * 16
_RANGES_AT_ONCE: Final = 400


class position_of(GenericFunction[int]):  # noqa: N801  the name of an SQL function
    """Where a text has another one in it, exactly; 0 where it has not."""

    type = BigInteger()
    inherit_cache = True


@compiles(position_of, "sqlite")
def _instr(element: position_of, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(position_of, "postgresql")
def _strpos(element: position_of, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


def key_from(moment: int) -> bytes:
    """The smallest key of a moment in microseconds (RFC 9562 5.7: 48 bits of milliseconds first)."""
    milliseconds = -(-moment // 1000)
    return min(milliseconds, 2**48 - 1).to_bytes(6, "big") + bytes(10)


def moment_of(key: bytes) -> int:
    """The time in a key, in microseconds since the epoch."""
    return ids.created_at(key) * 1000


def of_filters(filters: Filters, project_id: bytes) -> list[ColumnElement[bool]]:
    """All conditions of the filters but for free text, within one project (promise P6)."""
    columns = interactions.c
    found: list[ColumnElement[bool]] = [columns.project_id == literal(project_id, Key)]
    if filters.since is not None:
        found.append(columns.id >= literal(key_from(filters.since), Key))
    if filters.until is not None:
        found.append(columns.id < literal(key_from(filters.until), Key))
    if filters.deleted != "any":
        deleted = columns.deleted_at
        found.append(deleted.is_(None) if filters.deleted == "false" else deleted.is_not(None))
    found += [_chosen(choice, project_id) for choice in filters.choices]
    found += [bound for bounds in filters.bounds for bound in _bounded(bounds)]
    found += [_labelled(label, interactions.c.labels) for label in filters.labels]
    return found


def of_dimensions(
    filters: Filters, project_id: bytes, columns: Mapping[str, ColumnElement[Any]]
) -> list[ColumnElement[bool]]:
    """The same for what usage is grouped by, which stands in these columns; times and bounds are not looked at."""
    found: list[ColumnElement[bool]] = [columns["project"] == literal(project_id, Key)]
    found += [_chosen(choice, project_id, columns[choice.field.name]) for choice in filters.choices]
    found += [_labelled(label, columns["labels"]) for label in filters.labels]
    return found


def of_ranges(column: ColumnElement[int], ranges: Sequence[tuple[int, int]]) -> Iterator[ColumnElement[bool]]:
    """Conditions that a number lies in one of some ranges, from the first number on and before the last.

    Each has as many of them as one can name: SQLite takes no expression deeper than a thousand.
    """
    for place in range(0, len(ranges), _RANGES_AT_ONCE):
        some = ranges[place : place + _RANGES_AT_ONCE]
        yield or_(*(and_(column >= literal(start), column < literal(end)) for start, end in some))


def _chosen(
    choice: Choice, project_id: bytes, column: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    field, values = choice.field, choice.values
    column = field.column if column is None else column
    if ANY in values:
        # What follows another is of a chain, and nothing else: as terms have it, which know the depth.
        return (interactions.c.previous_id if field.name == "chain" else column).is_not(None)
    match field.kind:
        case "flag":
            return or_(*(column.is_(bool(value)) for value in values))
        case "reference" if field.name == "chain":
            return or_(*(_in_chain(literal(value, Key), project_id) for value in values))
        case "reference":
            return column.in_([literal(value, Key) for value in values])
        case "project":
            named = select(projects.c.id).where(projects.c.name.in_(_texts(values)))
            return or_(column.in_(named), *(column == key for key in _keys_of(values)))
        case "key":
            named = select(api_keys.c.id).where(
                api_keys.c.name.in_(_texts(values)), api_keys.c.project_id == literal(project_id, Key)
            )
            return or_(column.in_(named), *(column == key for key in _keys_of(values)))
        case _:
            return column.in_(_texts(values))


def _texts(values: Iterable[Any]) -> list[ColumnElement[Any]]:
    """Each value for itself, so that statements with as many of them are alike."""
    return [literal(value, Text) for value in values]


def _in_chain(member: ColumnElement[Any], project_id: bytes) -> ColumnElement[bool]:
    of_member = interactions.alias("of_member")
    root = (
        select(func.coalesce(of_member.c.root_id, of_member.c.id))
        .where(of_member.c.id == member, of_member.c.project_id == literal(project_id, Key))
        .scalar_subquery()
    )
    return or_(interactions.c.id == root, interactions.c.root_id == root)


def key_of(value: str) -> bytes | None:
    """The key of a project or of an API key in the form that this service shows; None for anything else."""
    try:
        return uuid.UUID(value).bytes
    except ValueError:
        return None


def _keys_of(values: tuple[Any, ...]) -> list[ColumnElement[Any]]:
    return [literal(key, Key) for value in values if (key := key_of(value)) is not None]


def _bounded(bounds: Bounds) -> list[ColumnElement[bool]]:
    column = bounds.field.column
    found: list[ColumnElement[bool]] = []
    if bounds.least is not None:
        found.append(column >= literal(bounds.least, BigInteger))
    if bounds.most is not None:
        found.append(column <= literal(bounds.most, BigInteger))
    return found


def _labelled(label: Label, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Labels stand in the row as one flat object of strings, compactly: a member follows its ``{`` or ``,``.

    A quotation mark inside a name or a value is escaped there, so nothing else looks like a member.
    """
    name = orjson.dumps(label.name).decode()
    members = [f"{name}:{orjson.dumps(value).decode()}" for value in label.values] or [f'{name}:"']
    starts = [start + member for member in members for start in ("{", ",")]
    return and_(
        column.is_not(None),
        or_(*(func.position_of(column, literal(start, Text)) > 0 for start in starts)) if starts else false(),
    )
