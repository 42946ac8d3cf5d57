"""What kind of upstream the emulator pretends to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """Everything about an emulator that is fixed when it starts; all durations are seconds.

    All of them follow the emulator's clock, which tests can move.
    """

    #: How long a stored interaction lives: 55 days when paid, 1 day when free (contract 6).
    retention_seconds: float = 55 * DAY
    #: Keys that are accepted; None accepts any. An interaction is visible to the key that made it only.
    keys: frozenset[str] | None = None
    #: Names of models that exist; None accepts every name of a family that Google serves.
    models: frozenset[str] | None = None
    #: Wait before every answer.
    latency: float = 0.0
    #: Wait between two events of a stream.
    token_delay: float = 0.0
    #: Streams are cut after this long (contract 4.6).
    stream_limit_seconds: float = 600.0
    #: How that cut looks: a JSON error array and a clean end, or an aborted body.
    stream_limit_tail: Literal["array", "abort"] = "array"
    #: How long a background run is `queued`, and then `in_progress`.
    queued_seconds: float = 1.0
    background_seconds: float = 2.0
    #: False: DELETE answers 501, as seen live in August 2026 (contract 6).
    delete_supported: bool = True
    #: How a `previous_interaction_id` that is unknown or expired is refused: 404 by name, or the bare 400.
    stale_reference: Literal["404", "400"] = "404"
    #: Whether GET shows the input as leading `user_input` steps (contract 3.3: documented, not guaranteed).
    get_includes_input: bool = True
    #: Whether GET with `include_input` echoes `input` as well: declared, and not seen live (contract 1.1, 3.3).
    get_echoes_input: bool = False
    #: Whether a foreground stream carries `event_id` (contract 4.3: background streams always do).
    foreground_event_ids: bool = False
    #: False: of the requests that were seen only the counts are kept.
    record_requests: bool = True
    max_body_bytes: int = 100 * 1024 * 1024
