"""What calls take: Google's field names, and how a call is made.

The types describe what contract 2 describes; what they do not know travels in ``extra_body``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

from pydantic import BaseModel

#: An object of the API: as a mapping, or as a model that an earlier call gave.
Item = Mapping[str, Any] | BaseModel
#: A text, one content, a list of content, or a list of steps (contract 2.2).
Input = str | Item | Sequence[Item]


class CreateFields(TypedDict, total=False):
    """The fields of a create, Google's names (contract 2.1); exactly one of ``model`` and ``agent``."""

    #: ``gemini/gemini-2.5-flash``, ``gemini-2.5-flash``, or an alias of the configuration.
    model: str
    agent: str
    input: Input
    system_instruction: str
    tools: Sequence[Item]
    generation_config: Mapping[str, Any]
    agent_config: Mapping[str, Any]
    response_format: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    response_mime_type: str
    response_modalities: Sequence[str]
    #: The interaction that this one continues; it may be as old as the store.
    previous_interaction_id: str
    store: bool
    #: Answer at once and run on; :meth:`Interaction.wait` waits for the end.
    background: bool
    service_tier: Literal["flex", "standard", "priority", "deferred"]
    webhook_config: Mapping[str, Any]
    environment: str | Mapping[str, Any]
    labels: Mapping[str, str]
    safety_settings: Sequence[Mapping[str, Any]]
    cached_content: str
    continuation_token: str


class CallOptions(TypedDict, total=False):
    """How one call is made."""

    #: Seconds until an answer must be there; for a stream, until its first byte. 900 if not given.
    timeout: float | None
    #: Headers to send besides those of the library.
    extra_headers: Mapping[str, str]


class CreateOptions(CreateFields, CallOptions, total=False):
    """What :meth:`create_interaction` takes."""

    #: Fields that this version does not know, and those that it does, sent as they are.
    extra_body: Mapping[str, Any]
    #: Repeats of the create under the same key are answered from the first one; lost connections are retried then.
    idempotency_key: str


class Connection(TypedDict, total=False):
    """Whom to ask; what is not given comes from the environment, what is not there either is embedded."""

    #: The URL of a running service; ``INTERACTIONS_BASE_URL``. Without one the service runs inside this process.
    base_url: str | None
    #: Remote: the service's key; ``INTERACTIONS_API_KEY`` or ``INTERACTIONS_MASTER_KEY``. Embedded: Gemini's key;
    #: ``GEMINI_API_KEY`` or ``GOOGLE_API_KEY``.
    api_key: str | None
    #: Embedded: the service's configuration, a YAML file; ``INTERACTIONS_CONFIG``.
    config: str | None
    #: Embedded: where interactions are stored; ``INTERACTIONS_DATABASE_URL`` or ``DATABASE_URL``, otherwise
    #: ``sqlite:///interactions.db``.
    database_url: str | None
    #: Seconds for which a stream that lost its connection is tried to be taken up again; 60 if not given.
    resume_timeout: float | None


class CreateCall(CreateOptions, Connection, total=False):
    """What the function :func:`create_interaction` takes."""


class PlainCall(CallOptions, Connection, total=False):
    """What the functions that name an interaction take besides its id."""


_CREATE_FIELDS: Final = frozenset(CreateFields.__annotations__)
CONNECTION: Final = frozenset(Connection.__annotations__)
_OF_CALLS: Final = frozenset(CallOptions.__annotations__)
_OF_CREATES: Final = _CREATE_FIELDS | _OF_CALLS | {"extra_body", "idempotency_key"}


def create_body(options: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """The body of a create; a field that is None is not sent. Raises :class:`TypeError` for an unknown argument."""
    check_names("create_interaction", options, _OF_CREATES)
    body = {
        name: plain(options[name]) for name in _CREATE_FIELDS & options.keys() if options[name] is not None
    }
    body |= plain(options.get("extra_body") or {})
    if stream:
        body["stream"] = True
    return body


def split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The connection among the arguments of a function, and the rest."""
    connection = {name: value for name, value in options.items() if name in CONNECTION}
    return connection, {name: value for name, value in options.items() if name not in CONNECTION}


def check_options(function: str, options: Mapping[str, Any]) -> None:
    """Raises :class:`TypeError` for an argument that a call without fields does not take."""
    check_names(function, options, _OF_CALLS)


def check_names(function: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises :class:`TypeError` that names an unknown argument and the nearest known one."""
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, sorted(known), 1)
        remedy = f"did you mean {near[0]!r}?" if near else "pass fields of the API in 'extra_body'."
        raise TypeError(f"{function}() has no argument {name!r}; {remedy}")


def plain(value: Any) -> Any:
    """The value with every model as the JSON object that it was read from."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
