"""What is derived from an interaction that has ended, exactly once: document, terms, cost, its part in the roll-ups.

``derived_state`` says how far that is: :data:`NOTHING`, :data:`WITHOUT_USAGE`, :data:`WHOLE`, or :data:`USAGE_CAME`
when usage arrived that the roll-ups do not have. Whoever writes usage that came late sets it to :data:`USAGE_CAME`,
whatever it was: without a ``series_id`` nothing was derived before. One transaction changes the state, from what it was
when the work began, and writes all that is derived; a crash repeats nothing and leaves nothing out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    FromClause,
    LargeBinary,
    SmallInteger,
    Text,
    and_,
    bindparam,
    case,
    column,
    func,
    null,
    select,
    update,
    values,
)

from service.audit import conditions, series
from service.audit.dialect import Dialect
from service.audit.measures import COUNTERS, Measures
from service.audit.ordered_join import OrderedJoin
from service.audit.series import Series
from service.store.script import Ask, Execute, Script
from service.store.statement import Query, key_parameters, named_keys
from service.store.tables import Key, interactions, listing_terms, rollups, split_hours

NOTHING: Final = 0
WITHOUT_USAGE: Final = 1
WHOLE: Final = 2
USAGE_CAME: Final = 3

#: Microseconds that roll-ups sum over, the longest last.
HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
SPANS: Final = (HOUR, DAY)
#: What is summed up of an hour from its start on, once it has been split (service/audit/splitting.py).
QUARTER: Final = HOUR // 4
FRACTIONS: Final = (QUARTER, 2 * QUARTER, 3 * QUARTER)

_KEYS: Final = ("project_id", "grain", "span", "start", "series_id")
#: Roll-ups that one statement looks up.
_PLACES_AT_ONCE: Final = 20
_SUMS: Final = (*COUNTERS, "modalities", "durations", "first_events")
_HOUR_KEYS: Final = ("project_id", "start")
#: A roll-up: project, grain, span, start, series.
Place = tuple[bytes, int, int, int, bytes]
#: A project and the start of one of its hours.
Hour = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Derived:
    """What one interaction gives; ``document`` is its input and its output, None when there are none to add.

    ``series`` has those of all grains by their ids, the one that tells everything first.
    """

    id: bytes
    project_id: bytes
    old_state: int
    old_usage_state: int
    state: int
    series: Mapping[bytes, Series]
    cost_nanos: int | None
    usage_detail: str | None
    terms: frozenset[int]
    document: tuple[str, str] | None
    measures: Measures | None

    @property
    def moment(self) -> int:
        """The time in its key, in microseconds."""
        return conditions.moment_of(self.id)

    @property
    def hour(self) -> Hour:
        """The hour that it is counted in."""
        return self.project_id, self.moment - self.moment % HOUR

    def fractions(self) -> Iterator[Place]:
        """The roll-ups of fractions of its hour that it is a part of."""
        project_id, start = self.hour
        for span in FRACTIONS:
            if self.moment - start < span:
                for series_id, one in self.series.items():
                    yield project_id, one.grain, span, start, series_id

    def places(self) -> Iterator[Place]:
        """The roll-ups that it is a part of, by the time in its key."""
        moment = self.moment
        for series_id, one in self.series.items():
            for span in SPANS:
                yield self.project_id, one.grain, span, moment - moment % span, series_id


@dataclass(slots=True)
class Derivation:
    """A batch of interactions, written by one transaction."""

    dialect: Dialect
    items: Sequence[Derived]

    def script(self) -> Script:
        """Write what is derived from those that nobody has derived it from meanwhile; how many that were."""
        keys = named_keys([item.id for item in self.items])
        found = yield Ask(_states_of(len(self.items)), keys)
        deleted = {row[0]: row[3] is not None for row in found}
        # Where usage came since it was looked at, everything is looked at again.
        same = {(row[0], row[1], row[2]) for row in found}
        items = [item for item in self.items if (item.id, item.old_state, item.old_usage_state) in same]
        if items:
            yield Execute(MARK, [_marked(item) for item in items])
            yield from self._series(items)
            yield from self._rollups(items)
            terms = [{"term": term, "interaction_id": item.id} for item in items for term in item.terms]
            yield Execute(statements(self.dialect).terms, terms)
            yield from self._documents([item for item in items if not deleted[item.id]])
        return len(items)

    def _series(self, items: Sequence[Derived]) -> Script:
        known = {digest: one for item in items for digest, one in item.series.items()}
        rows = [{"id": digest, **asdict(one)} for digest, one in sorted(known.items(), key=itemgetter(0))]
        yield Execute(statements(self.dialect).series, rows)
        return 0

    def _rollups(self, items: Sequence[Derived]) -> Script:
        sums = _summed(items)
        yield from self._fractions(items, sums)
        places = list(sums)
        for start in range(0, len(places), _PLACES_AT_ONCE):
            some = places[start : start + _PLACES_AT_ONCE]
            found = yield Ask(_rollups_at(len(some)), _named_places(some))
            for row in found:
                sums[row[0], row[1], row[2], row[3], row[4]].add_columns(row[len(_KEYS) :])
        rows = [
            {**dict(zip(_KEYS, place, strict=True)), **measures.columns()}
            for place, measures in sorted(sums.items())
        ]
        yield Execute(statements(self.dialect).rollups, rows)
        return 0

    def _fractions(self, items: Sequence[Derived], sums: dict[Place, Measures]) -> Script:
        """Add what belongs to hours that have been split already; the others are noted, to be split in their time."""
        counted = [(item, item.measures) for item in items if item.measures is not None]
        hours = list(dict.fromkeys(item.hour for item, _ in counted))
        if not hours:
            return 0
        known = {(row[0], row[1]): row[2] for row in (yield Ask(_hours_at(len(hours)), _named_hours(hours)))}
        noted = [_named_hour(hour) for hour in hours if hour not in known]
        yield Execute(statements(self.dialect).hours, noted)
        late: dict[Hour, Measures] = defaultdict(Measures)
        for item, measures in counted:
            if known.get(item.hour) is not None:
                late[item.hour].add(measures)
                for place in item.fractions():
                    sums[place].add(measures)
        yield Execute(COUNT_LATE, [{**_named_hour(hour), **_counts(late[hour])} for hour in late])
        return 0

    def _documents(self, items: Sequence[Derived]) -> Script:
        chosen = [
            self.dialect.document(item.id, *item.document)
            for item in items
            if item.document is not None and any(item.document)
        ]
        if chosen:
            yield Execute(chosen[0][0], [told for _, told in chosen])
        return 0


def _summed(items: Sequence[Derived]) -> dict[Place, Measures]:
    """What the items add to each roll-up: first those that have all in common are added up."""
    alike: dict[tuple[bytes, int], tuple[Derived, Measures]] = {}
    for item in items:
        if item.measures is None:
            continue
        kind = (next(iter(item.series)), item.moment // HOUR)
        known = alike.get(kind)
        if known is None:
            known = alike[kind] = (item, Measures())
        known[1].add(item.measures)
    sums: dict[Place, Measures] = defaultdict(Measures)
    for item, measures in alike.values():
        for place in item.places():
            sums[place].add(measures)
    return sums


class Statements:
    """The writes of a derivation in the words of one database."""

    __slots__ = ("hours", "rollups", "series", "terms")

    def __init__(self, dialect: Dialect) -> None:
        insert = dialect.insert
        self.series = series.insert_into(dialect)
        terms = {each.name: bindparam(each.name, type_=each.type) for each in listing_terms.c}
        self.terms = Query("insert terms", insert(listing_terms).values(terms).on_conflict_do_nothing())
        hour = {name: bindparam(f"hour_{name}", type_=split_hours.c[name].type) for name in _HOUR_KEYS}
        self.hours = Query("note hours", insert(split_hours).values(hour).on_conflict_do_nothing())
        sums = {each.name: bindparam(each.name, type_=each.type) for each in rollups.c}
        upsert = insert(rollups).values(sums)
        self.rollups = Query(
            "write rollup",
            upsert.on_conflict_do_update(
                index_elements=[rollups.c[name] for name in _KEYS],
                set_={name: upsert.excluded[name] for name in _SUMS},
            ),
        )


#: The writes in the words of a database.
statements: Final = cache(Statements)

MARK: Final = Query(
    "mark as derived",
    update(interactions)
    .values(
        derived_state=bindparam("new_state", type_=SmallInteger),
        cost_nanos=bindparam("new_cost", type_=BigInteger),
        usage_detail=func.coalesce(bindparam("new_detail", type_=Text), interactions.c.usage_detail),
        series_id=bindparam("new_series", type_=LargeBinary),
        # What expired keeps its labels; what was deleted had them until they were counted.
        labels=case(
            (and_(interactions.c.deleted_at.is_not(None), interactions.c.expired_at.is_(None)), null()),
            else_=interactions.c.labels,
        ),
    )
    .where(interactions.c.id == bindparam("marked_id", type_=Key)),
)


#: What came to an hour that has been split.
COUNT_LATE: Final = Query(
    "count what came late",
    update(split_hours)
    .values(
        requests=split_hours.c.requests + bindparam("late_requests", type_=BigInteger),
        unmeasured=split_hours.c.unmeasured + bindparam("late_unmeasured", type_=BigInteger),
    )
    .where(*(split_hours.c[name] == bindparam(f"hour_{name}") for name in _HOUR_KEYS)),
)


def _named_hour(hour: Hour) -> dict[str, Any]:
    return {f"hour_{name}": value for name, value in zip(_HOUR_KEYS, hour, strict=True)}


def _counts(measures: Measures) -> dict[str, int]:
    return {f"late_{name}": measures.counts[name] for name in ("requests", "unmeasured")}


def _marked(item: Derived) -> Mapping[str, Any]:
    return {
        "marked_id": item.id,
        "new_state": item.state,
        "new_cost": item.cost_nanos,
        "new_detail": item.usage_detail,
        "new_series": next(iter(item.series)),
    }


@cache
def _states_of(count: int) -> Query:
    """How so many interactions stand; their rows are held, and those that others hold wait for the next time."""
    chosen = (
        select(
            interactions.c.id,
            interactions.c.derived_state,
            interactions.c.usage_state,
            interactions.c.deleted_at,
        )
        .where(interactions.c.id.in_(key_parameters(count)))
        .with_for_update(skip_locked=True)
    )
    return Query(f"states of {count}", chosen)


@cache
def _hours_at(count: int) -> Query:
    """So many hours, as far as they are known, and whether they have been split."""
    keys = [split_hours.c[name] for name in _HOUR_KEYS]
    return Query(
        f"hours at {count}",
        select(*keys, split_hours.c.requests).select_from(_at(keys, count, "hours", split_hours)),
    )


def _named_hours(hours: Sequence[Hour]) -> dict[str, Any]:
    return {
        f"{name}_{number}": value
        for number, hour in enumerate(hours)
        for name, value in zip(_HOUR_KEYS, hour, strict=True)
    }


def _at(keys: Sequence[Any], count: int, name: str, table: FromClause) -> FromClause:
    """Rows of a table with so many keys, which are given by the names of their columns and a number."""
    told = [tuple(bindparam(f"{key.name}_{place}", type_=key.type) for key in keys) for place in range(count)]
    places = values(*(column(key.name, key.type) for key in keys), name=name).data(told).cte(name)
    # A list of rows that a row is to be in has SQLite look through all of them.
    return OrderedJoin(places, table, and_(*(key == places.c[key.name] for key in keys)))


@cache
def _rollups_at(count: int) -> Query:
    """So many roll-ups, as far as they are there."""
    keys = [rollups.c[name] for name in _KEYS]
    found = _at(keys, count, "places", rollups)
    chosen = select(*keys, *(rollups.c[name] for name in _SUMS)).select_from(found)
    return Query(f"rollups at {count}", chosen)


def _named_places(places: Sequence[Place]) -> dict[str, Any]:
    return {
        f"{name}_{number}": value
        for number, place in enumerate(places)
        for name, value in zip(_KEYS, place, strict=True)
    }
