"""The events of a stream, typed (contract 4.3).

Tell them apart by class or by ``event_type``. An event that this version does not know is an :class:`UnknownEvent`
with all its members.
"""

from __future__ import annotations

from typing import Any

from service.sdk.models import Content, ErrorDetail, InteractionData, Model, Step, Usage


class Event(Model):
    """Base of all events."""

    event_type: str = ""
    #: The cursor that the stream can be taken up behind: ``last_event_id``.
    event_id: str | None = None


class InteractionCreated(Event):
    """The interaction has begun; from here on its id is known."""

    interaction: InteractionData = InteractionData()


class InteractionStatusUpdate(Event):
    """The interaction has another status."""

    interaction_id: str = ""
    status: str = ""


class StepStart(Event):
    """A step begins; it may have its first content already."""

    index: int = 0
    step: Step = Step()


class Delta(Content):
    """What a step grows by; ``type`` says which of the members it has (contract 4.4)."""

    is_error: bool | None = None
    content: Content | None = None


class StepDelta(Event):
    """A step grows."""

    index: int = 0
    delta: Delta = Delta()

    @property
    def text(self) -> str:
        """The text that is new; empty for a delta of another type."""
        return (self.delta.text or "") if self.delta.type == "text" else ""


class StepStop(Event):
    """A step is complete."""

    index: int = 0
    usage: Usage | None = None


class InteractionCompleted(Event):
    """The interaction has ended; its status and usage are final. The steps have been told before."""

    interaction: InteractionData = InteractionData()


class ErrorEvent(Event):
    """Something went wrong after the stream began; it is told as an event and not raised."""

    error: ErrorDetail = ErrorDetail()


class UnknownEvent(Event):
    """An event of a type that this version does not know."""


StreamEvent = (
    InteractionCreated
    | InteractionStatusUpdate
    | StepStart
    | StepDelta
    | StepStop
    | InteractionCompleted
    | ErrorEvent
    | UnknownEvent
)

_TYPES: dict[str, type[StreamEvent]] = {
    "interaction.created": InteractionCreated,
    "interaction.status_update": InteractionStatusUpdate,
    "step.start": StepStart,
    "step.delta": StepDelta,
    "step.stop": StepStop,
    "interaction.completed": InteractionCompleted,
    "error": ErrorEvent,
}


def event_of(body: dict[str, Any]) -> StreamEvent:
    """The event that this JSON object is."""
    kind = body.get("event_type")
    return _TYPES.get(kind if isinstance(kind, str) else "", UnknownEvent).model_validate(body)
