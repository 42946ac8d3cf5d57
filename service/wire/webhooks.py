"""``webhook_config`` of a request, and the event that its receivers get (contract 2.1 and 6.1).

The event is thin, in the form of Standard Webhooks: a type, a time and the id to ask for. Statuses that Google has no
event for are told as the one that asks the same of the receiver; ``data.status`` says which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from service.errors import InvalidRequest, ParameterUnknown
from service.wire import codec

_MEMBERS: Final = frozenset({"uris", "user_metadata"})
_MOST_URIS: Final = 8
_LONGEST_URI: Final = 2_048
_MOST_METADATA: Final = 16 * 1024

_EVENTS: Final = {
    "completed": "interaction.completed",
    "incomplete": "interaction.completed",
    "requires_action": "interaction.requires_action",
    "requires_continuation": "interaction.requires_action",
    "cancelled": "interaction.cancelled",
    "failed": "interaction.failed",
    "budget_exceeded": "interaction.failed",
}


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Who is to be told of the outcome, and what is repeated to them."""

    uris: tuple[str, ...]
    user_metadata: dict[str, Any] | None

    def shown(self) -> dict[str, Any]:
        """As the resource shows it (contract 3.3)."""
        shown: dict[str, Any] = {"uris": list(self.uris)}
        return shown if self.user_metadata is None else {**shown, "user_metadata": self.user_metadata}


def parse(value: Any, *, background: bool) -> WebhookConfig | None:
    """Read ``webhook_config``; raises InvalidRequest naming the member at fault and the remedy."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest(
            "The value is invalid for 'webhook_config'. Expected an object with 'uris' and 'user_metadata'."
        )
    if not background:
        raise InvalidRequest("background=true is required for 'webhook_config'.")
    if unknown := sorted(value.keys() - _MEMBERS):
        raise ParameterUnknown(f"Unknown parameter {unknown[0]!r} at 'webhook_config'.")
    return WebhookConfig(_uris(value.get("uris")), _metadata(value.get("user_metadata")))


def event_type(status: str) -> str:
    """The type of the event that tells of an outcome with this status."""
    return _EVENTS.get(status, "interaction.failed")


def event_id(interaction_id: str) -> str:
    """``webhook-id``: one for the event, whoever is told of it and however often."""
    return interaction_id.replace("int_", "msg_", 1)


def event(interaction_id: str, status: str, timestamp: str, user_metadata: dict[str, Any] | None) -> bytes:
    """The body of the event; the same bytes every time it is sent."""
    data: dict[str, Any] = {"id": interaction_id, "status": status}
    if user_metadata is not None:
        data["user_metadata"] = user_metadata
    return codec.dumps({"type": event_type(status), "version": "v1", "timestamp": timestamp, "data": data})


def _uris(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest(
            "The value is invalid for 'webhook_config.uris'. Expected a list with at least one URI."
        )
    if len(value) > _MOST_URIS:
        raise InvalidRequest(
            f"The value is invalid for 'webhook_config.uris'. Expected at most {_MOST_URIS} URIs, got {len(value)}."
        )
    for place, uri in enumerate(value):
        if problem := _problem(uri):
            raise InvalidRequest(f"The value is invalid for 'webhook_config.uris[{place}]'. {problem}")
    # A URI that is named twice is one receiver.
    return tuple(dict.fromkeys(value))


def _problem(uri: Any) -> str | None:
    if not isinstance(uri, str):
        return "Expected a string."
    if len(uri) > _LONGEST_URI:
        return f"Expected at most {_LONGEST_URI} characters."
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        return "Percent-encode what is not printable ASCII."
    try:
        parts = urlsplit(uri)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "Expected an absolute http or https URI."
    if parts.scheme.lower() not in ("http", "https") or not host or port == 0:
        return "Expected an absolute http or https URI."
    if "@" in parts.netloc or parts.fragment:
        return "Expected a URI without a user name, a password or a fragment."
    return None


def _metadata(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("The value is invalid for 'webhook_config.user_metadata'. Expected an object.")
    if len(codec.dumps(value)) > _MOST_METADATA:
        raise InvalidRequest(
            f"The value is invalid for 'webhook_config.user_metadata'. Expected at most {_MOST_METADATA} bytes of JSON."
        )
    return value
