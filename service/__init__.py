"""The Interactions Service: a durable gateway for the Gemini Interactions API.

The names of the Python SDK are here: ``from service import create_interaction``. They are loaded when they are first
used, so that importing this package costs nothing and starts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.sdk.async_client import AsyncInteractionsClient
    from service.sdk.async_functions import (
        acancel_interaction,
        acreate_interaction,
        adelete_interaction,
        aget_interaction,
        alist_interactions,
        areplay_interaction,
    )
    from service.sdk.client import InteractionsClient
    from service.sdk.errors import (
        AuthenticationFailed,
        BadRequest,
        ClientUnusable,
        Conflict,
        ConnectionFailed,
        ConnectionLost,
        InteractionNotFound,
        InteractionsError,
        InvalidAnswer,
        PermissionRefused,
        RateLimited,
        RequestTimeout,
        RequestTooLarge,
        SdkConfigurationError,
        ServiceFailed,
        StatusError,
        StreamLost,
        WaitTimeout,
    )
    from service.sdk.events import (
        ErrorEvent,
        Event,
        InteractionCompleted,
        InteractionCreated,
        InteractionStatusUpdate,
        StepDelta,
        StepStart,
        StepStop,
        StreamEvent,
        UnknownEvent,
    )
    from service.sdk.filters import InteractionPage, InteractionSummary
    from service.sdk.functions import (
        cancel_interaction,
        create_interaction,
        delete_interaction,
        get_interaction,
        list_interactions,
        replay_interaction,
    )
    from service.sdk.interactions import AsyncInteraction, Interaction
    from service.sdk.lists import AsyncInteractionList, InteractionList
    from service.sdk.models import Content, InteractionData, Step, Usage
    from service.sdk.replays import Replay
    from service.sdk.streams import AsyncInteractionStream, InteractionStream

__version__ = "0.1.0"

_MODULES = {
    "async_client": "AsyncInteractionsClient",
    "async_functions": """
        acancel_interaction acreate_interaction adelete_interaction aget_interaction alist_interactions
        areplay_interaction
    """,
    "client": "InteractionsClient",
    "errors": """
        AuthenticationFailed BadRequest ClientUnusable Conflict ConnectionFailed ConnectionLost InteractionNotFound
        InteractionsError InvalidAnswer PermissionRefused RateLimited RequestTimeout RequestTooLarge
        SdkConfigurationError ServiceFailed StatusError StreamLost WaitTimeout
    """,
    "events": """
        ErrorEvent Event InteractionCompleted InteractionCreated InteractionStatusUpdate StepDelta StepStart StepStop
        StreamEvent UnknownEvent
    """,
    "filters": "InteractionPage InteractionSummary",
    "functions": """
        cancel_interaction create_interaction delete_interaction get_interaction list_interactions replay_interaction
    """,
    "interactions": "AsyncInteraction Interaction",
    "lists": "AsyncInteractionList InteractionList",
    "models": "Content InteractionData Step Usage",
    "replays": "Replay",
    "streams": "AsyncInteractionStream InteractionStream",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Load a name of the SDK (PEP 562)."""
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"service.sdk.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = (
    "AsyncInteraction",
    "AsyncInteractionList",
    "AsyncInteractionStream",
    "AsyncInteractionsClient",
    "AuthenticationFailed",
    "BadRequest",
    "ClientUnusable",
    "Conflict",
    "ConnectionFailed",
    "ConnectionLost",
    "Content",
    "ErrorEvent",
    "Event",
    "Interaction",
    "InteractionCompleted",
    "InteractionCreated",
    "InteractionData",
    "InteractionList",
    "InteractionNotFound",
    "InteractionPage",
    "InteractionStatusUpdate",
    "InteractionStream",
    "InteractionSummary",
    "InteractionsClient",
    "InteractionsError",
    "InvalidAnswer",
    "PermissionRefused",
    "RateLimited",
    "Replay",
    "RequestTimeout",
    "RequestTooLarge",
    "SdkConfigurationError",
    "ServiceFailed",
    "StatusError",
    "Step",
    "StepDelta",
    "StepStart",
    "StepStop",
    "StreamEvent",
    "StreamLost",
    "UnknownEvent",
    "Usage",
    "WaitTimeout",
    "acancel_interaction",
    "acreate_interaction",
    "adelete_interaction",
    "aget_interaction",
    "alist_interactions",
    "areplay_interaction",
    "cancel_interaction",
    "create_interaction",
    "delete_interaction",
    "get_interaction",
    "list_interactions",
    "replay_interaction",
)
