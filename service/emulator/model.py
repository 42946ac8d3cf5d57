"""The model: the steps, the status and the usage that answer a request, and always the same ones.

A turn goes as upstream's turns go: the built-in tools are used, a thought follows, and then either the
declared functions are called (`requires_action`) or the answer is given. Functions are called when the
conversation ends in a user turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.emulator import media, prose, tokens
from service.emulator.conversation import Conversation
from service.emulator.directives import Plan
from service.emulator.inputs import Step
from service.emulator.signatures import digest, sign
from service.emulator.synthesis import synthesise
from service.emulator.tools import function_calls, grounding_counts, pair, use_built_in
from service.emulator.validate import CreateRequest

Content = dict[str, Any]
#: Puts the bytes of content away and gives the content with their URI.
Deliver = Callable[[Content], Content]

#: Tools that Deep Research brings along.
_RESEARCH_TOOLS = [{"type": kind} for kind in ("google_search", "url_context", "code_execution")]
_SANDBOX_TOOLS = [{"type": "code_execution"}]
_THOUGHT_WEIGHT = {"minimal": 0, "low": 1, "medium": 2, "high": 4, "xhigh": 8}
#: Implicit caching starts at this many tokens of restored history.
_LEAST_CACHED = 1024
_SUMMARY = "**Reading the request**\n\nI count the turns and quote them in order."
#: What models of these names give besides or instead of text.
_MEDIA_MODELS = {"-image": ("text", "image"), "nano-banana": ("text", "image"), "-tts": ("audio",)}
_MEDIA_FAMILIES = {"lyria-": ("text", "audio"), "gemini-omni": ("text", "video")}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model gives for one request."""

    steps: list[Step]
    status: str
    usage: dict[str, Any]
    errors: Sequence[dict[str, str]] = ()


def answer(
    request: CreateRequest, conversation: Conversation, history: tokens.Counts, plan: Plan, deliver: Deliver
) -> Answer:
    """Answer `request`; `history` is the part of the conversation that upstream had kept."""
    turn = _Turn(request, conversation, plan, deliver)
    status = turn.run()
    return Answer(turn.steps, status, turn.usage(history), turn.errors)


def continued(steps: list[Step], prompt: tokens.Counts) -> dict[str, Any]:
    """The usage of an interaction that only goes on with an answer already thought out (contract 4.7)."""
    return tokens.usage(prompt, _output(steps), thought=0, cached=0, tools={})


class _Turn:
    def __init__(
        self, request: CreateRequest, conversation: Conversation, plan: Plan, deliver: Deliver
    ) -> None:
        self._request = request
        self._conversation = conversation
        self._plan = plan
        self._deliver = deliver
        self._seed = digest(conversation.digest, (request.model or request.agent or "").encode())
        self._question = conversation.last
        self._tools = self._own_tools() + request.tools
        self._thoughts = 0
        self.steps: list[Step] = []
        self.errors: tuple[dict[str, str], ...] = ()

    def run(self) -> str:
        """Make the steps; returns the status."""
        asked = self._conversation.asked or "call" in self._plan
        if asked:
            self._process_media()
            self.steps += use_built_in(self._tools, self._question, self._seed)
            if self._request.managed:
                self._work_in_sandbox()
        self._think()
        if asked and (calls := self._calls()):
            self.steps += calls
            return "requires_action"
        return self._give_output()

    def usage(self, history: tokens.Counts) -> dict[str, Any]:
        """The usage of this turn (contract 3.5)."""
        prompt = dict(self._conversation.counts)
        scope = [self._request.body.get("system_instruction"), self._request.tools]
        declared = sum(tokens.count_text(orjson.dumps(part).decode()) for part in scope if part)
        if declared:
            tokens.add(prompt, {"text": declared})
        kept = sum(history.values())
        used: tokens.Counts = {}
        for step in self.steps:
            if step["type"].endswith("_result"):
                tokens.add(used, tokens.tokens_of(step))
        figures = tokens.usage(
            prompt,
            _output(self.steps),
            thought=self._thought_tokens(),
            cached=kept if kept >= _LEAST_CACHED else 0,
            tools=used,
        )
        if self._conversation.asked and (grounding := grounding_counts(self._tools)):
            figures["grounding_tool_count"] = grounding
        return figures

    def _own_tools(self) -> list[dict[str, Any]]:
        if self._request.research:
            return _RESEARCH_TOOLS
        return _SANDBOX_TOOLS if self._request.managed else []

    def _calls(self) -> list[Step]:
        if self._request.agent is not None:
            return []
        return function_calls(self._request.tools, self._request.config.get("tool_choice"), self._seed)

    def _thought_tokens(self) -> int:
        level = self._request.config.get("thinking_level", "medium")
        return (16 + self._seed[0] % 32) * _THOUGHT_WEIGHT[level] * self._thoughts

    def _think(self) -> None:
        number = bytes((self._thoughts,))
        self._thoughts += 1
        thought: Step = {"type": "thought", "signature": sign(self._seed, b"thought", number)}
        config = self._request.config if self._request.model else self._request.body.get("agent_config") or {}
        if config.get("thinking_summaries") == "auto":
            thought["summary"] = [{"type": "text", "text": _SUMMARY}]
        self.steps.append(thought)

    def _process_media(self) -> None:
        for step in reversed(self._request.steps):
            for part in step["content"] if step["type"] == "user_input" else ():
                if part.get("processing") == "agentic":
                    self.steps += pair("processing", {}, {}, self._seed + b"processing")

    def _work_in_sandbox(self) -> None:
        """A function that the agent's own sandbox runs: call and result are both upstream's."""
        self._think()
        name, seed = "run_command", self._seed + b"sandbox"
        call, _ = pair("function", {"name": name, "arguments": {"command": "ls"}}, {}, seed)
        result = {"type": "function_result", "call_id": call["id"], "name": name, "result": "report.md\n"}
        self.steps += [call, {**result, "is_error": False}]

    def _give_output(self) -> str:
        contents, cut = self._contents()
        if failed := self._plan.get("failed"):
            self.errors = ({"code": failed.text("code"), "message": failed.text("message")},)
            error = {"code": 13, "message": failed.text("message"), "details": []}
            self.steps.append({"type": "model_output", "error": error})
            return "failed"
        if "story" in self._plan:
            self._tell_story(contents)
        else:
            self.steps.append({"type": "model_output", "content": contents})
        if "unknown" in self._plan:
            self.steps.append(
                {"type": "emulated_future_step", "payload": {"value": "kept"}, "label": "future"}
            )
        if "budget_exceeded" in self._plan or self._over_budget():
            return "budget_exceeded"
        return "incomplete" if cut or "incomplete" in self._plan else "completed"

    def _tell_story(self, contents: list[Content]) -> None:
        chapters = [*contents, media.image({}), {"type": "text", "text": "That was the story."}]
        for number, content in enumerate(chapters):
            if number:
                self._think()
            self.steps.append({"type": "model_output", "content": [content]})

    def _over_budget(self) -> bool:
        budget = (self._request.body.get("agent_config") or {}).get("max_total_tokens")
        return budget is not None and self.usage({})["total_tokens"] > int(budget)

    def _contents(self) -> tuple[list[Content], bool]:
        contents: list[Content] = []
        cut = False
        for wanted in _wanted(self._request):
            kind = wanted["type"]
            if kind == "text":
                content, cut = self._text(wanted)
                contents.append(content)
            else:
                made = media.MAKERS[kind](wanted)
                contents.append(self._deliver(made) if wanted.get("delivery") == "uri" else made)
        return contents, cut

    def _text(self, wanted: Content) -> tuple[Content, bool]:
        text = prose.compose(self._request, self._conversation, self._plan)
        schema = wanted.get("schema")
        if schema is not None or wanted.get("mime_type") == "application/json":
            text = orjson.dumps(synthesise(schema or {"type": "object"}, text)).decode()
        text, cut = prose.limited(text, self._request.config)
        content: Content = {"type": "text", "text": text}
        if annotations := self._annotations(text):
            content["annotations"] = annotations
        return content, cut

    def _annotations(self, text: str) -> list[Content]:
        """Citations of what the tools found; indices are bytes of UTF-8 (contract 5.2)."""
        if not self._conversation.asked:
            return []
        span = {"start_index": 0, "end_index": len(text.partition(".")[0].encode())}
        site = "https://example.com/emulator"
        cited: dict[str, Content] = {
            "google_search": {"type": "url_citation", "url": site, "title": "example.com"},
            "google_maps": {
                "type": "place_citation",
                "place_id": "emulated-place",
                "name": "Emulator Square",
                "url": site,
            },
            "file_search": {
                "type": "file_citation",
                "document_uri": site,
                "file_name": "emulated.txt",
                "page_number": 1,
            },
        }
        return [{**cited[tool["type"]], **span} for tool in self._tools if tool["type"] in cited]


def _wanted(request: CreateRequest) -> list[Content]:
    """The formats of the answer, from the request or else from the model's name."""
    formats = request.body.get("response_format")
    if isinstance(formats, dict):
        known = formats.get("type") in ("text", *media.MAKERS)
        return [formats] if known else [{"type": "text", "schema": formats}]
    if formats:
        return list(formats)
    kinds = request.body.get("response_modalities") or _kinds_of(request.model or "")
    return [{"type": kind} for kind in kinds]


def _kinds_of(model: str) -> tuple[str, ...]:
    for part, kinds in _MEDIA_MODELS.items():
        if part in model:
            return kinds
    for family, kinds in _MEDIA_FAMILIES.items():
        if model.startswith(family):
            return kinds
    return ("text",)


def _output(steps: list[Step]) -> tokens.Counts:
    counts: tokens.Counts = {}
    for step in steps:
        if step["type"] in ("model_output", "function_call"):
            tokens.add(counts, tokens.tokens_of(step))
    return counts or {"text": 0}
