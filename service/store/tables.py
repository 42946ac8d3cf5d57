"""The tables, once, for both databases.

Column types are those that SQLite and PostgreSQL drivers take without conversion, because the hot path hands rows to
the driver directly: keys are 16 bytes (:class:`Key`), times are microseconds since the epoch, money is billionths of a
dollar. ``interactions`` is one narrow row with every filterable field as a column; bodies live in ``payloads`` so that
no list drags them along.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.dialects.postgresql import UUID as POSTGRES_UUID
from sqlalchemy.types import TypeDecorator, TypeEngine

#: The project that owns every row until others are made.
DEFAULT_PROJECT = UUID("00000000-0000-7000-8000-000000000001").bytes

#: Who holds an open interaction that no process has: it is for the first that comes.
NOBODY = bytes(16)

#: From this key on are those who hold what was brought in while it was open elsewhere
#: (:mod:`service.store.bringing_in`). No process could have such a key.
BROUGHT = b"\xff" * 8 + bytes(8)

REQUEST_PAYLOAD = 1
RESPONSE_PAYLOAD = 2


class Key(TypeDecorator[bytes]):
    """A UUIDv7 as 16 bytes: a blob in SQLite, ``uuid`` in PostgreSQL."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of the database."""
        return POSTGRES_UUID(as_uuid=True) if dialect.name == "postgresql" else LargeBinary(16)

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> Any:
        """Give the driver what it expects for a key."""
        if value is None or dialect.name != "postgresql":
            return value
        return UUID(bytes=value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Give callers 16 bytes whatever the driver returned."""
        return value.bytes if isinstance(value, UUID) else value


metadata = MetaData()

interactions = Table(
    "interactions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("key_id", Key),
    # The chain.
    Column("previous_id", Key),
    Column("root_id", Key),
    Column("depth", BigInteger, nullable=False),
    Column("replay_of", Key),
    # What was asked.
    Column("created_at", BigInteger, nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("store", Boolean, nullable=False),
    Column("model_requested", Text),
    Column("agent", Text),
    Column("labels", Text),
    Column("request_bytes", BigInteger, nullable=False),
    # Where it went.
    Column("deployment_id", Text),
    Column("upstream_id", Text),
    # Indexed in place of the id itself: an eighth of the size, in the one index whose order is random.
    Column("upstream_id_hash", BigInteger),
    Column("upstream_stored", Boolean, nullable=False),
    Column("upstream_gone_at", BigInteger),
    # The process whose word counts while the interaction is open, and which ended it afterwards.
    Column("owner_id", Key, nullable=False),
    # What came of it.
    Column("status", Text, nullable=False),
    Column("model", Text),
    Column("service_tier", Text),
    Column("http_status", SmallInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("response_bytes", BigInteger),
    Column("attempts", Text),
    Column("updated_at", BigInteger, nullable=False),
    Column("first_byte_at", BigInteger),
    Column("completed_at", BigInteger),
    # What it used.
    Column("usage_state", SmallInteger, nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("thought_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("tool_use_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    Column("usage_detail", Text),
    Column("cost_nanos", BigInteger),
    # A deleted interaction is hidden at once; its content is erased when no follow-up needs it any more.
    Column("deleted_at", BigInteger),
    Column("erased_at", BigInteger),
    # What was derived from it (service/store/derivation.py), and what its usage is counted under.
    Column("derived_state", SmallInteger, nullable=False, server_default="0"),
    Column("series_id", LargeBinary(16)),
    # Deleted by a rule of retention, and not by its owner.
    Column("expired_at", BigInteger),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (id)",
)

for _column in ("upstream_id_hash", "root_id", "replay_of"):
    _present = text(f"{_column} IS NOT NULL")
    Index(
        f"ix_interactions_{_column}",
        interactions.c[_column],
        sqlite_where=_present,
        postgresql_where=_present,
    )
# Asked for what still needs a parent; a parent of many would otherwise lead to all that were ever deleted.
_needing = text("previous_id IS NOT NULL AND erased_at IS NULL")
Index(
    "ix_interactions_previous_id",
    interactions.c.previous_id,
    sqlite_where=_needing,
    postgresql_where=_needing,
)
_open = text("completed_at IS NULL")
Index(
    "ix_interactions_open",
    interactions.c.owner_id,
    interactions.c.id,
    sqlite_where=_open,
    postgresql_where=_open,
)
# What is open, and what is still to be derived from: to end an interaction moves nothing here.
_waiting = text("derived_state IN (0, 3)")
Index("ix_interactions_waiting", interactions.c.id, sqlite_where=_waiting, postgresql_where=_waiting)

_kept = text("deleted_at IS NOT NULL AND erased_at IS NULL")
Index("ix_interactions_kept", interactions.c.id, sqlite_where=_kept, postgresql_where=_kept)

payloads = Table(
    "payloads",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("codec", SmallInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (interaction_id)",
)

events = Table(
    "events",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Upstream's own id of the last of these events.
    Column("upstream_cursor", Text),
    # How long after the event before each of these came (:mod:`service.store.timings`).
    Column("timings", LargeBinary),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (interaction_id)",
)

#: Requests with a long list for an input. ``digest`` is of the list's ``size`` bytes from its first element on; with a
#: ``base_id``, the request's payload leaves out its first bytes, which are the whole list of that other interaction.
inputs = Table(
    "inputs",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, index=True),
    Column("start", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("base_id", Key),
    sqlite_with_rowid=False,
)
_based = text("base_id IS NOT NULL")
Index("ix_inputs_base_id", inputs.c.base_id, sqlite_where=_based, postgresql_where=_based)

#: Which interaction refers to which kept media; ``uri_digest`` is of project and URI.
media = Table(
    "media",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("uri_digest", LargeBinary(16), primary_key=True, index=True),
    Column("content_id", LargeBinary(32), nullable=False, index=True),
    Column("mime_type", Text, nullable=False),
    Column("kept_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: The bytes of media, each once for a project: ``id`` is a digest of both.
media_contents = Table(
    "media_contents",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

#: By ``kind``: ``process`` is a running process, alive until ``due_at``; the others are of an interaction: ``cancel`` a
#: wish, ``media`` and ``usage`` what is still to be fetched, after ``due_at``.
leases = Table(
    "leases",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("due_at", BigInteger, nullable=False),
    Column("tries", BigInteger, nullable=False),
)
Index("ix_leases_due", leases.c.due_at)

#: Which interaction a key of a project has made; ``fingerprint`` is of its request.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("interaction_id", Key, nullable=False, index=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

#: Whom to tell of an outcome, one row for each URI, written with the intent. ``due_at`` is empty until there is an
#: outcome; while one process delivers, it is when another may. ``settled_at`` ends it, delivered or given up.
webhooks = Table(
    "webhooks",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    Column("uri", Text, nullable=False),
    Column("user_metadata", Text),
    Column("due_at", BigInteger),
    Column("tries", BigInteger, nullable=False),
    Column("lease_token", Key),
    Column("settled_at", BigInteger),
    # What came of the last try.
    Column("http_status", SmallInteger),
    Column("error", Text),
    sqlite_with_rowid=False,
)
_due = text("due_at IS NOT NULL")
Index("ix_webhooks_due", webhooks.c.due_at, sqlite_where=_due, postgresql_where=_due)

#: What signs the webhooks of a project.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # The secret before it, which signs along until then.
    Column("previous_secret", Text),
    Column("previous_until", BigInteger),
)

#: What each process (``replica``) knows of its deployments, for the others: what it has sent there in one minute
#: (``minute`` counts them since the epoch), and until when it lets one rest, in microseconds; ``asked``: as upstream
#: has asked it to.
deployment_states = Table(
    "deployment_states",
    metadata,
    Column("replica", Key, primary_key=True),
    Column("deployment_id", Text, primary_key=True),
    Column("minute", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cooling_until", BigInteger),
    Column("asked", Boolean, nullable=False),
    Column("told_at", BigInteger, nullable=False, index=True),
    # Thousandths of requests under way, on average, and microseconds of an answer, while there are answers.
    Column("running", BigInteger, nullable=False, server_default="0"),
    Column("latency", BigInteger),
    sqlite_with_rowid=False,
)

#: What usage can be grouped by, each combination once; ``id`` is a digest of the others.
series = Table(
    "series",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    # How much it tells of its interactions (service/audit/series.py).
    Column("grain", SmallInteger, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("key_id", Key),
    Column("model", Text),
    Column("agent", Text),
    Column("deployment_id", Text),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("service_tier", Text),
    Column("stream", Boolean, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("labels", Text),
    sqlite_with_rowid=False,
)

#: Sums over the interactions of one series that began within ``span`` microseconds from ``start`` on.
rollups = Table(
    "rollups",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("grain", SmallInteger, primary_key=True, autoincrement=False),
    Column("span", BigInteger, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("series_id", LargeBinary(16), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    # How many have no usage, and how many have one whose price is not known.
    Column("unmeasured", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("thought_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("tool_use_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("modalities", Text, nullable=False),
    Column("durations", LargeBinary, nullable=False),
    Column("first_events", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: Hours that there are roll-ups of. With ``requests`` and ``unmeasured``, an hour has roll-ups of its first quarter,
#: half and three quarters as well, and these are the sums of what it had then and has got since; without, it is still
#: to be split.
split_hours = Table(
    "split_hours",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger),
    Column("unmeasured", BigInteger),
    sqlite_with_rowid=False,
)
_unsplit = text("requests IS NULL")
Index("ix_split_hours_due", split_hours.c.start, sqlite_where=_unsplit, postgresql_where=_unsplit)

#: What lists find interactions by: digests of what they are (service/audit/terms.py), each in the order of time.
listing_terms = Table(
    "listing_terms",
    metadata,
    Column("term", BigInteger, primary_key=True, autoincrement=False),
    Column("interaction_id", Key, primary_key=True),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (interaction_id)",
)

#: The texts that are searched. SQLite numbers them and PostgreSQL has their words, so this is no table of the common
#: schema (service/audit/sqlite/documents.py, service/audit/postgres/documents.py).
search_documents = Table(
    "search_documents",
    MetaData(),
    Column("interaction_id", Key, primary_key=True),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("number", BigInteger),
    Column("folded_input", Text),
    Column("folded_output", Text),
    Column("vector", TSVECTOR),
)


#: What each request asks, whoever sent it and however often: equal requests have equal digests.
recordings = Table(
    "recordings",
    metadata,
    Column("interaction_id", Key, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, index=True),
    sqlite_with_rowid=False,
)

#: How far work that goes through all interactions in the order of their keys has come.
progress = Table(
    "progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Key, nullable=False),
)

#: Legal holds: on an interaction, on what carries a label, or on a whole project. One that was released stays as a
#: record of itself.
holds = Table(
    "holds",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("interaction_id", Key),
    Column("label", Text),
    Column("label_value", Text),
    Column("reason", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("released_at", BigInteger),
)
_standing = text("interaction_id IS NOT NULL AND released_at IS NULL")
Index("ix_holds_interaction_id", holds.c.interaction_id, sqlite_where=_standing, postgresql_where=_standing)

#: Tables that PostgreSQL keeps in ranges of time, with the length of a range.
PARTITIONED = {
    "interactions": "month",
    "payloads": "day",
    "events": "day",
    "listing_terms": "month",
    "search_documents": "month",
}
