"""What the service is configured to do, as frozen values; `service.settings.loader` finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Literal

from service.settings.secret import Secret

DAY = 86_400.0
GOOGLE = "https://generativelanguage.googleapis.com"
#: The model of `fallbacks` whose models stand in for all that have none of their own.
ANY_MODEL = "*"

Network = IPv4Network | IPv6Network
History = Literal["upstream", "local"]
RoutingStrategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]
#: What LiteLLM's `retry_policy` distinguishes; `DefaultRetries` is for every failure that has no other number, and of
#: the last three nothing is ever repeated.
RetriedError = Literal[
    "AuthenticationErrorRetries",
    "InternalServerErrorRetries",
    "RateLimitErrorRetries",
    "ServiceUnavailableErrorRetries",
    "TimeoutErrorRetries",
    "DefaultRetries",
    "BadRequestErrorRetries",
    "ContentPolicyViolationErrorRetries",
    "NotFoundErrorRetries",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """One entry of `model_list`: an upstream model behind one credential."""

    #: `model_info.id`, or derived from the entry's content without its secrets: it survives a restart.
    id: str
    #: The alias callers use; `*` stands for any run of characters.
    model_name: str
    #: Upstream's spelling, without `gemini/`; `*` passes the caller's on.
    model: str
    api_key: Secret
    #: Scheme, host and prefix; no version, no trailing slash.
    api_base: str = GOOGLE
    api_version: str = "v1beta"
    #: Seconds for a whole unary answer, for each silence of a stream, for a connection, and until an answer begins.
    timeout: float | None = None
    stream_timeout: float | None = None
    #: Seconds after which whoever has begun a stream is told to take it up again later; the interaction goes on.
    stream_total_timeout: float | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    #: Requests and tokens a minute, and requests at a time; None is no limit.
    rpm: int | None = None
    tpm: int | None = None
    #: The share of the traffic; None leaves that to `rpm`, `tpm` or chance.
    weight: float | None = None
    #: Of the deployments that can serve, those with the lowest order do.
    order: int = 1
    max_parallel_requests: int | None = None
    #: Seconds that upstream keeps its copy (contract 6).
    retention: float = 55 * DAY
    #: Seconds that upstream keeps a file that a URI of its own names (contract 5.2).
    file_retention: float = 2 * DAY
    #: Seconds after which an interaction that upstream still calls running is given up.
    background_timeout: float | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """How a deployment is chosen and what happens when it fails; names and meanings are LiteLLM's."""

    routing_strategy: RoutingStrategy = "simple-shuffle"
    num_retries: int = 2
    #: Seconds that a retry on the same deployment waits at least.
    retry_after: float = 0.0
    #: Retry a create whose answer was lost as well: it may have run, and then it runs and is billed twice. An answer of
    #: 500, 502, 503 or 504 is no lost one and is repeated in any case, though an upstream may have run the request all
    #: the same; `InternalServerErrorRetries: 0` in `retry_policy` ends that.
    retry_ambiguous: bool = False
    #: The number of retries after errors of some kinds, instead of `num_retries`.
    retry_policy: Mapping[RetriedError, int] = field(default_factory=lambda: MappingProxyType({}))
    #: Retries of all requests of a process, within ten seconds, beyond a tenth of the traffic.
    retry_allowance: int = 6
    timeout: float | None = None
    stream_timeout: float | None = None
    stream_total_timeout: float | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5
    allowed_fails: int = 3
    cooldown_time: float = 5.0
    disable_cooldowns: bool = False
    #: Of LiteLLM's checks, `enforce_model_rate_limits`: it makes `rpm` and `tpm` limits under every strategy.
    optional_pre_call_checks: tuple[str, ...] = ()
    #: Seconds between two exchanges of what the processes on one database know of their deployments.
    shared_state_interval: float = 1.0
    model_group_alias: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """How long some interactions are kept: those of a project, those with a label, those with both, or all."""

    #: Seconds; None is for ever.
    keep: float | None
    #: The project's name.
    project: str | None = None
    label: str | None = None
    #: None is any value of the label.
    label_value: str | None = None

    def matches(self, project: str | None, labels: Mapping[str, object]) -> bool:
        """Whether this rule is about an interaction of that project with these labels."""
        if self.project is not None and project != self.project:
            return False
        if self.label is None:
            return True
        return self.label in labels and (self.label_value is None or labels[self.label] == self.label_value)

    def covers(self, other: RetentionRule) -> bool:
        """Whether this rule is about everything that the other one is about."""
        if self.project is not None and self.project != other.project:
            return False
        if self.label is None:
            return True
        return self.label == other.label and self.label_value in (None, other.label_value)

    def __str__(self) -> str:
        parts = []
        if self.project is not None:
            parts.append(f"project {self.project}")
        if self.label is not None:
            value = "" if self.label_value is None else f"={self.label_value}"
            parts.append(f"label {self.label}{value}")
        return ", ".join(parts) or "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration."""

    deployments: tuple[DeploymentSettings, ...] = ()
    #: Without a `model_list`, the key of the environment: any `gemini-*` model and any agent.
    default_deployment: DeploymentSettings | None = None
    router: RouterSettings = field(default_factory=RouterSettings)
    master_key: Secret | None = None
    #: Always `sqlite+aiosqlite:///...` or `postgresql+asyncpg://...`.
    database_url: str = "sqlite+aiosqlite:///interactions.db"
    #: What gave that URL: the key, a variable of the environment, or an option of the command line.
    database_url_source: str = "general_settings.database_url"
    database_connection_pool_limit: int = 10
    host: str = "127.0.0.1"
    port: int = 4000
    #: Answers come from the built-in emulator; set on the command line only, never by a file.
    emulator: bool = False
    max_body_bytes: int = 64 * 1024 * 1024
    history: History = "upstream"
    #: Bytes of a rebuilt conversation beyond which it is refused; upstream takes about as much (contract 5.5).
    max_rebuild_bytes: int = 20 * 1024 * 1024
    #: Fetch and keep the files of upstream that conversations refer to, up to so many bytes each.
    keep_media: bool = False
    max_media_bytes: int = 20 * 1024 * 1024
    #: Look for interactions that this store has never seen at the deployments, and import what is found.
    adopt_unknown: bool = False
    #: Creates that run at a time in this process; more are refused at once.
    max_concurrent_requests: int = 5_000
    #: Names of projects that get recorded answers only, and never reach upstream; `*` stands for all.
    recorded_projects: tuple[str, ...] = ()
    #: How long interactions are kept, and how many seconds lie between two looks for what is due.
    retention_policies: tuple[RetentionRule, ...] = ()
    retention_interval: float = 3_600.0
    #: Rows that may wait for the writer before new work is refused.
    writer_queue_limit: int = 10_000
    #: Seconds that whoever waits for the store to take what has happened waits; it is written later all the same.
    outcome_patience: float = 60.0
    #: Seconds that a stopping process gives its open interactions.
    drain_timeout: float = 25.0
    #: Seconds for which a 404 from upstream, for an interaction that it has just begun, is not believed (contract 6).
    upstream_settle: float = 4.0
    #: Seconds of silence after which a stream of upstream counts as lost, where nothing narrower is said.
    stream_idle_timeout: float = 300.0
    #: Seconds that a process may be silent before others take over what it holds, and between two looks for such.
    lease_seconds: float = 30.0
    claim_interval: float = 1.0
    #: Interactions that are taken over in one transaction.
    claim_batch: int = 100
    #: Open interactions that upstream is asked about at a time, and how many a second at most.
    supervisor_concurrency: int = 32
    poll_rate: float = 100.0
    #: Seconds between two questions about one background run: at first, and at most.
    poll_interval: float = 2.0
    poll_interval_max: float = 30.0
    #: Background runs that are followed by upstream's stream; the others are asked about.
    background_streams: int = 256
    #: Seconds after which an interaction that upstream still calls running is given up, unless a deployment says.
    background_timeout: float = 7_200.0
    #: Seconds until usage is asked for that upstream did not tell with the end; the pauses after that grow.
    usage_interval: float = 10.0
    #: Seconds of silence after which a comment keeps whoever is between from closing the connection of a stream.
    keep_alive_interval: float = 15.0
    #: Seconds that an event of a stream waits at most before it is handed to the store.
    event_flush_interval: float = 0.05
    #: Seconds that an interaction which has ended waits at most until it is searched and summed up, if there is time.
    index_interval: float = 0.5
    #: Seconds after which an export is broken off whose client reads nothing: it keeps its place until then.
    export_stall_timeout: float = 30.0
    #: What signs the webhooks of every project, two while one is rotated out; none: one of its own for each project,
    #: made and kept by the service.
    webhook_secret: tuple[Secret, ...] = ()
    #: Whether webhooks may go to addresses that are not public: to all of them, or to those of these networks.
    webhook_allow_private: bool | tuple[Network, ...] = False
    #: Seconds for one try to deliver a webhook, until the second try, and for all of them together.
    webhook_timeout: float = 15.0
    webhook_retry_after: float = 5.0
    webhook_retry_for: float = DAY
    #: Webhooks that are tried at a time.
    webhook_concurrency: int = 32
    #: Seconds for which a request that is sent again with its `Idempotency-Key` gets the same interaction.
    idempotency_retention: float = DAY
    #: Seconds that upstream has for one unary answer, where nothing narrower is said.
    request_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The configuration and what its author should be told about it, one line each."""

    settings: Settings
    warnings: tuple[str, ...] = ()
