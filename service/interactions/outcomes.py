"""What an upstream body says about an interaction, as the figures and flags a record keeps (contract 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.store.records import TERMINAL, USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL, Usage
from service.wire.legacy import outputs_to_steps

#: Figures that no count of tokens reaches; what is larger is an upstream's mistake and not kept.
_COUNT_BITS: Final = 53
#: In the order of :class:`Usage`; the thoughts have another name in the older generation.
_TOTALS: Final = (
    "total_input_tokens",
    "total_output_tokens",
    "total_thought_tokens",
    "total_cached_tokens",
    "total_tool_use_tokens",
    "total_tokens",
)
_REASONING: Final = ("total_reasoning_tokens",)
#: The status of what a caller has ended.
CANCELLED: Final = "cancelled"


def status_of(body: Mapping[str, Any]) -> str:
    """The status a body tells; a body without one is a finished answer (Lyria, contract 1.4)."""
    status = body.get("status")
    return status if isinstance(status, str) and status else "completed"


def is_terminal(status: str) -> bool:
    """Whether upstream will not change the interaction any more; unknown statuses are not final."""
    return status in TERMINAL


def usage_of(body: Mapping[str, Any], *, cut: bool = False) -> Usage:
    """The totals of ``usage`` (contract 3.5), under either generation's names.

    They are marked as partial for a run that was cancelled, or ``cut`` off before upstream had ended it.
    """
    usage = body.get("usage")
    if not isinstance(usage, dict) or not usage:
        return Usage(USAGE_MISSING)
    state = USAGE_PARTIAL if cut or body.get("status") == CANCELLED else USAGE_FINAL
    told = Usage(state, *_counts(usage, _TOTALS))
    if told.thought_tokens is None:
        return told._replace(thought_tokens=_counts(usage, _REASONING)[0])
    return told


def ended_usage(body: Mapping[str, Any], status: str) -> dict[str, Any] | None:
    """The usage of an interaction that has ended with a status, from a body that upstream shows of it.

    What that has used so far as long as it runs there is not that, unless it was cancelled, of which upstream may not
    know.
    """
    usage = body.get("usage")
    ended = status == CANCELLED or is_terminal(status_of(body))
    return usage if isinstance(usage, dict) and usage and ended else None


def upstream_id_of(body: Mapping[str, Any]) -> str | None:
    """Upstream's own id; absent with ``store:false`` (contract 3.3)."""
    value = body.get("id")
    return value if isinstance(value, str) and value else None


def error_of(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Code and message of the first diagnostic of a failed interaction."""
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return str(errors[0].get("code", "api_error")), str(errors[0].get("message", ""))
    return None


def steps_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a body, whichever form it has; no steps beside outputs are none."""
    steps = body.get("steps")
    outputs = body.get("outputs")
    if isinstance(steps, list) and (steps or not outputs):
        return [step for step in steps if isinstance(step, dict)]
    return (
        outputs_to_steps([item for item in outputs if isinstance(item, dict)])
        if isinstance(outputs, list)
        else []
    )


def _counts(usage: Mapping[str, Any], names: tuple[str, ...]) -> list[int | None]:
    # A bool is no count. Shifted like this, only what is neither negative nor too large is nothing.
    return [
        value if type(value) is int and not value >> _COUNT_BITS else None for value in map(usage.get, names)
    ]
