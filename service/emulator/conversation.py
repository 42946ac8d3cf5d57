"""What the model has seen: a fold over steps that also checks that the history is one upstream would accept.

A chained request folds its new steps onto the conversation that its ancestor ended with; a stateless one
folds the whole history. Both come to the same conversation, and therefore to the same answer, if the history
is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from service.emulator.inputs import Step
from service.emulator.signatures import SKIP, digest, genuine
from service.emulator.tokens import Counts, add, describe, tokens_of
from service.errors import InvalidRequest

INVALID_ARGUMENT = "Request contains an invalid argument."
_ORDER = (
    "Please ensure that function call turn comes immediately after a user turn "
    "or after a function response turn."
)
_QUOTE = 80
_NO_CALLS: Mapping[str, str] = MappingProxyType({})


class Conversation:
    """Everything about a history that decides the next answer."""

    __slots__ = (
        "answering",
        "asked",
        "calls",
        "client_turn",
        "counts",
        "digest",
        "heard",
        "last",
        "model_turns",
        "thought",
        "user_turns",
    )

    def __init__(self) -> None:
        #: Fingerprint of every step so far.
        self.digest = b""
        #: User texts and function results in order, shortened, as sentences.
        self.heard: list[str] = []
        self.user_turns = 0
        self.model_turns = 0
        #: The text of the latest user turn, shortened.
        self.last = ""
        #: Whether the latest step came from the client, and whether it was a user turn.
        self.client_turn = False
        self.asked = False
        #: Whether the running model turn answers a client step, and has a thought that vouches for a call.
        self.answering = False
        self.thought = False
        #: Name by id of the calls in the latest model turn that made any.
        self.calls: Mapping[str, str] = _NO_CALLS
        #: Tokens so far, by modality.
        self.counts: Counts = {}

    def fork(self) -> Conversation:
        """A copy that can go on without this one."""
        copy = Conversation()
        copy.digest, copy.last, copy.asked = self.digest, self.last, self.asked
        copy.heard = self.heard.copy()
        copy.user_turns, copy.model_turns = self.user_turns, self.model_turns
        copy.client_turn, copy.answering, copy.thought = self.client_turn, self.answering, self.thought
        copy.calls = self.calls
        copy.counts = self.counts.copy()
        return copy

    def hear(self, steps: list[Step]) -> None:
        """Fold steps that a client has sent.

        Raises InvalidRequest for a history that upstream refuses (contract 5.3 and 5.5).
        """
        if not self.client_turn:
            # A model step that opens a request answers nothing the client has said.
            self.answering = False
        for step in steps:
            _check_signature(step)
            self._fold(step, checked=True)

    def say(self, steps: list[Step]) -> None:
        """Fold steps that the model has made."""
        for step in steps:
            self._fold(step, checked=False)

    def _fold(self, step: Step, *, checked: bool) -> None:
        self.digest = digest(self.digest, orjson.dumps(step, option=orjson.OPT_SORT_KEYS))
        kind = step["type"]
        self.asked = kind == "user_input"
        if self.asked:
            self._fold_user(step)
        elif kind == "function_result":
            self._fold_result(step, checked)
        else:
            self._fold_model(step, kind, checked)
        if kind != "thought":
            add(self.counts, tokens_of(step))

    def _fold_user(self, step: Step) -> None:
        self.user_turns += 1
        self.last = shorten(describe(step["content"]))
        self.heard.append(f'User turn {self.user_turns} said: "{self.last}".')
        self.client_turn = True

    def _fold_result(self, step: Step, checked: bool) -> None:
        if checked and step["call_id"] not in self.calls:
            raise InvalidRequest(INVALID_ARGUMENT)
        result = step["result"]
        shown = result if isinstance(result, str) else describe(result)
        self.heard.append(f'The result of {step.get("name")} was: "{shorten(shown)}".')
        # A result that the server itself obtained belongs to the model's turn.
        self.client_turn = checked

    def _fold_model(self, step: Step, kind: str, checked: bool) -> None:
        if self.client_turn or not self.model_turns:
            self.model_turns += 1
            self.answering, self.client_turn = self.client_turn, False
            self.thought = False
            self.calls = _NO_CALLS
        if kind == "thought":
            self.thought = True
        elif kind == "function_call":
            if checked:
                self._check_call()
            self.calls = {**self.calls, step["id"]: step["name"]}

    def _check_call(self) -> None:
        if not self.answering:
            raise InvalidRequest(_ORDER)
        if not self.thought:
            raise InvalidRequest(INVALID_ARGUMENT)


def shorten(value: str) -> str:
    """`value` on one line and at most 80 characters long."""
    line = " ".join(value[: 4 * _QUOTE].split())
    return line if len(line) <= _QUOTE else line[: _QUOTE - 3] + "..."


def _check_signature(step: dict[str, Any]) -> None:
    """A thought must be signed, and no signature may have been touched (contract 5.5)."""
    signature = step.get("signature")
    if signature is None and step["type"] != "thought":
        return
    if signature == SKIP or (isinstance(signature, str) and genuine(signature)):
        return
    raise InvalidRequest(INVALID_ARGUMENT)
