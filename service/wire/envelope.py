"""The parts of a create request that this service acts on.

The body is parsed once and kept as it came. Members this service does not know are Google's to accept or
refuse; what is checked here is what a record and a route cannot be made without, in Google's words where they
are known (contract 7.4).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from service.errors import InvalidRequest
from service.wire import codec, webhooks

#: Members that decide something and that most requests are without.
_RARE: Final = frozenset(
    {
        "agent",
        "stream",
        "store",
        "background",
        "previous_interaction_id",
        "continuation_token",
        "webhook_config",
    }
)


class Envelope(NamedTuple):
    """A create request: its body, untouched, and the members that decide what happens to it."""

    body: dict[str, Any]
    model: str | None
    agent: str | None
    stream: bool
    store: bool
    background: bool
    previous_interaction_id: str | None
    continuation_token: str | None
    has_input: bool
    #: Who is to be told of the outcome.
    webhooks: webhooks.WebhookConfig | None = None

    @property
    def continues(self) -> bool:
        """Whether it goes on with the answer that it names: a token without an input (contract 4.7).

        A token beside an input goes on with an answer that upstream did not store, and that nothing can name.
        """
        return self.continuation_token is not None and not self.has_input


def parse(raw: bytes) -> Envelope:
    """Read a create request (contract 2.1); null members count as absent.

    Raises InvalidRequest naming the member at fault: JSON that does not parse, is nested too deeply or is not an
    object, neither or both of ``model`` and ``agent``, a member of the wrong type, input that is missing (without
    ``continuation_token``) or empty, a background interaction that is not stored, a ``webhook_config`` that cannot be
    served.
    """
    body = codec.loads_foreign(raw)
    if not isinstance(body, dict):
        raise InvalidRequest(f"Invalid JSON payload: expected an object, got {_kind(body)}.")
    model = _text(body, "model")
    if model is not None and _RARE.isdisjoint(body):
        has_input = _has_input(body.get("input"), required=True)
        return Envelope(body, model, None, False, True, False, None, None, has_input)
    agent = _text(body, "agent")
    if (model is None) == (agent is None):
        raise InvalidRequest(
            "Missing 'model' or 'agent'. Set exactly one of them."
            if model is None
            else "Both 'model' and 'agent' are set. Set exactly one of them."
        )
    store = _flag(body, "store", default=True)
    background = _flag(body, "background", default=False)
    if background and not store:
        raise InvalidRequest("store=true is required for background interactions")
    token = _text(body, "continuation_token")
    return Envelope(
        body=body,
        model=model,
        agent=agent,
        stream=_flag(body, "stream", default=False),
        store=store,
        background=background,
        previous_interaction_id=_text(body, "previous_interaction_id"),
        continuation_token=token,
        has_input=_has_input(body.get("input"), required=token is None),
        webhooks=webhooks.parse(body.get("webhook_config"), background=background),
    )


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(name, "a string", value)
    if not value:
        raise InvalidRequest(f"The value is invalid for '{name}'. Expected a non-empty string.")
    if "\0" in value:
        raise InvalidRequest(f"The value is invalid for '{name}'. Remove the NUL character.")
    return value


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong_type(name, "a boolean", value)
    return value


def _has_input(value: Any, *, required: bool) -> bool:
    if value is None:
        if required:
            raise InvalidRequest("Missing input.")
        return False
    if not isinstance(value, str | list | dict):
        raise _wrong_type("input", "a string, an object, or an array", value)
    if not value:
        raise InvalidRequest("Request has empty input.")
    if isinstance(value, list):
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                raise _wrong_type(f"input[{position}]", "an object", item)
    return True


def _wrong_type(name: str, expected: str, value: Any) -> InvalidRequest:
    return InvalidRequest(f"The value is invalid for '{name}'. Expected {expected}, got {_kind(value)}.")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "number"
