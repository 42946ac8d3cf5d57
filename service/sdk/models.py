"""What the service answers, as models that keep every member, known or not.

Attribute names are Google's (contract 3 and 5). What this version does not know is kept and is an attribute as well; a
known member of an unexpected type is kept as it came. ``model_dump(exclude_unset=True)`` gives back what was received,
so a step can be sent again as part of an ``input``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from service.wire.legacy import interaction_to_legacy, outputs_to_steps
from service.wire.steps import output_text


class Model(BaseModel):
    """Base of all models: unknown members are kept, and nothing that a service says is refused."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show what was told."""
        return [(name, value) for name, value in super().__repr_args__() if name in self.model_fields_set]

    @model_validator(mode="wrap")
    @classmethod
    def _tolerant(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError:
            if not isinstance(data, dict):
                raise
            return cls.model_construct(set(data), **data)


def _as_list(value: Any) -> Any:
    """Content as a list of objects; a bare string is a text (contract 2.2)."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if isinstance(value, dict):
        return [value]
    return [] if value is None else value


class Content(Model):
    """A piece of content (contract 5.2): text, or media inline or by URI. In ``outputs`` also a whole step."""

    type: str = ""
    text: str | None = None
    annotations: list[dict[str, Any]] | None = None
    #: Base64.
    data: str | None = None
    uri: str | None = None
    mime_type: str | None = None
    #: Members of a step that stands among ``outputs``.
    id: str | None = None
    name: str | None = None
    arguments: Any = None
    call_id: str | None = None
    result: Any = None
    signature: str | None = None
    summary: Any = None


Contents = Annotated[list[Content], BeforeValidator(_as_list)]


class Step(Model):
    """One step (contract 5.1): ``type`` says which of the members it has."""

    type: str = ""
    #: Of ``user_input`` and ``model_output``.
    content: Contents = []
    #: Of ``thought``.
    signature: str | None = None
    summary: Contents = []
    #: Of calls and results.
    id: str | None = None
    name: str | None = None
    arguments: Any = None
    call_id: str | None = None
    result: Any = None
    is_error: bool | None = None
    error: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The texts of the step's content, joined."""
        return "".join([content.text or "" for content in self.content])


class ModalityTokens(Model):
    """Tokens of one modality."""

    modality: str = ""
    tokens: int = 0


class Usage(Model):
    """What an interaction used (contract 3.5), in tokens."""

    total_tokens: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    total_thought_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_tool_use_tokens: int | None = None
    input_tokens_by_modality: list[ModalityTokens] | None = None
    output_tokens_by_modality: list[ModalityTokens] | None = None


class ErrorDetail(Model):
    """What went wrong with an interaction."""

    code: str | int | None = None
    message: str = ""


class InteractionData(Model):
    """An interaction as it was when it was told (contract 3.3)."""

    id: str = ""
    object: str = "interaction"
    #: ``queued``, ``in_progress``, ``requires_action``, ``completed``, ``failed``, ``cancelled``, ``incomplete``, ...
    status: str = ""
    model: str | None = None
    agent: str | None = None
    #: ISO 8601.
    created: str | None = None
    updated: str | None = None
    previous_interaction_id: str | None = None
    #: What the model made; after ``include_input=True`` what it was given as well.
    steps: list[Step] = []
    usage: Usage | None = None
    service_tier: str | None = None
    errors: list[ErrorDetail] | None = None
    environment_id: str | None = None
    continuation_token: str | None = None
    #: The request's input as it was sent, after ``include_input=True``.
    input: Any = None

    @model_validator(mode="before")
    @classmethod
    def _with_steps(cls, data: Any) -> Any:
        """The steps of one that was told in outputs (contract 1.4), so that there is one way to read it."""
        if isinstance(data, dict) and not data.get("steps") and isinstance(data.get("outputs"), list):
            return {**data, "steps": outputs_to_steps(data["outputs"])}
        return data

    @property
    def output_text(self) -> str:
        """The text that ends the answer; thoughts do not interrupt it."""
        return output_text(self._told().get("steps") or [])

    @property
    def outputs(self) -> list[Content]:
        """The outputs of the older generation of the API: contents, with thoughts and calls between them."""
        outputs = interaction_to_legacy(self._told()).get("outputs")
        return [Content.model_validate(output) for output in outputs or []]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in ("", "queued", "in_progress")

    def _told(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)
