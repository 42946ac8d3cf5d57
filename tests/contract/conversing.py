"""Conversations through official clients, and what upstream must have been sent for each turn of one.

A conversation is held twice: over an upstream that keeps it, and over one that loses everything between every two
turns. The first has to be asked with the new input and its own id of the turn before; the second with every step of
the conversation, once, in order and as it was (contract 5.5). The emulator's answers follow from what it was sent and
from nothing else, so that both must also give the same answers, to the last id and signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from service.emulator.inputs import steps_of
from tests.contract.official import OMITTED, Client, Json, Sdk
from tests.contract.reading import MODEL, produced, quoted, streamed_text, text_of, text_part, types_of
from tests.interactions.conversations import checkpoint_of
from tests.support.gateway import STEPS, Gateway
from tests.support.upstreams import Emulated

#: Seconds of the emulator's clock, after which a background run has ended.
_LONG = 60.0
_PATIENCE = 30.0
_CREATED = "interaction.created"
_ENDS = ("interaction.completed", "interaction.complete")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation: what the client says, and the kind of steps that the model answers with."""

    #: A text, or a list of content; nothing where the pending function calls are answered.
    says: str | tuple[Json, ...] = ""
    #: What the client remembers by itself and sends before that: texts of the user and of the model.
    before: tuple[tuple[str, str], ...] = ()
    #: The results of the pending calls, in the order of the calls.
    results: tuple[Any, ...] = ()
    makes: tuple[str, ...] = ("thought", "model_output")
    #: Other members of the request.
    members: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    #: A directive for the emulator.
    wish: str = ""
    #: Another deployment than that of the turn before serves it: there is nothing to refer to.
    moved: bool = False

    def given(self, pending: Sequence[Json]) -> list[Json]:
        """The steps of its input."""
        if self.results:
            return [
                {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": result}
                for call, result in zip(pending, self.results, strict=True)
            ]
        told = [step for asked, said in self.before for step in (user_step(asked), _model_step(said))]
        return [*told, user_step(self.says)]

    def content(self, sdk: Sdk, given: list[Json]) -> Any:
        """Its input as a client of that generation puts it."""
        if self.before and sdk.generation == "legacy":
            roles = {"user_input": "user", "model_output": "model"}
            return [{"role": roles[step["type"]], "content": step["content"]} for step in given]
        if self.before or self.results:
            return given
        return self.says if isinstance(self.says, str) else list(self.says)

    @property
    def words(self) -> list[str]:
        """What the model quotes of it."""
        if self.results:
            return [word for result in self.results for word in _words(result)]
        said = [part["text"] for part in user_step(self.says)["content"] if "text" in part]
        return [asked for asked, _ in self.before] + said


@dataclass(frozen=True, slots=True)
class Link:
    """One interaction of a conversation; the steps are those that must be sent on if upstream has lost it."""

    id: str
    upstream_id: str
    steps: list[Json]


@dataclass(slots=True)
class Conversation:
    """A conversation as it goes on; `forgetful`: upstream loses everything before every turn but the first."""

    gateway: Gateway
    upstream: Emulated
    forgetful: bool
    links: list[Link] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def fork(self) -> Conversation:
        """A conversation that has this one in common and can go another way."""
        return Conversation(self.gateway, self.upstream, self.forgetful, self.links.copy(), self.words.copy())

    @property
    def steps(self) -> list[Json]:
        """Every step so far."""
        return [step for link in self.links for step in link.steps]

    @property
    def pending(self) -> list[Json]:
        """The function calls of the latest answer."""
        steps = self.links[-1].steps if self.links else []
        return [step for step in steps if step["type"] == "function_call"]

    def prepare(self) -> None:
        """Let upstream lose what it is to lose before the next turn."""
        self.upstream.clear()
        self.upstream.calm()
        if self.forgetful:
            self.upstream.forget()

    def request(self, sdk: Sdk, turn: Turn) -> Json:
        """The arguments of the SDK's create for this turn."""
        actor = {} if "agent" in turn.members else {"model": MODEL}
        request: Json = {**actor, "input": turn.content(sdk, turn.given(self.pending)), **turn.members}
        if self.links:
            request["previous_interaction_id"] = self.links[-1].id
        return request

    async def say(self, client: Client, turn: Turn, *, streamed: bool = False) -> Json:
        """Take a turn and check everything about it; the answer, as the SDK gives it."""
        self.prepare()
        if turn.wish:
            self.upstream.behave(turn.wish)
        request = self.request(client.sdk, turn)
        # The stream of a background run waits for the clock, which only goes on when somebody moves it.
        if streamed and "background" not in turn.members:
            answer = await read_back(client, await client.stream(**request))
        else:
            answer = await client.create(**request)
        if answer["status"] in ("queued", "in_progress"):
            self.upstream.clock.advance(_LONG)
            async with asyncio.timeout(_PATIENCE):
                while (answer := await client.get(answer["id"]))["status"] in ("queued", "in_progress"):
                    await asyncio.sleep(0.05)
        await self.add(client.sdk, turn, answer)
        return answer

    async def add(self, sdk: Sdk, turn: Turn, answer: Json) -> None:
        """Check the turn that led to this answer, and count it in."""
        given = turn.given(self.pending)
        upstream_id = self.check_requests(given, moved=turn.moved)
        made = self.upstream.steps_of(upstream_id)
        assert [step["type"] for step in made] == list(turn.makes)
        assert answer["status"] == ("requires_action" if made[-1]["type"] == "function_call" else "completed")
        if sdk.generation == "steps":
            assert _made(produced(answer), given) == made
        stored = await self.gateway.got(answer["id"], headers=STEPS)
        assert _made(stored.steps, given) == made
        self.words += turn.words
        if made[-1]["type"] == "model_output":
            assert quoted(text_in(made), *self.words)
        # What an agent did on its way is of no use to a model: only its report is sent on (contract 5.5).
        kept = made[-1:] if "agent" in turn.members else made
        self.links.append(Link(answer["id"], upstream_id, [*given, *kept]))

    async def say_in_hops(self, client: Client, turn: Turn, hops: int, *, streamed: bool) -> None:
        """Take a turn whose answer the SDK collects from several interactions (contract 4.7)."""
        self.prepare()
        self.upstream.behave(f"continuation;hops={hops}")
        ids, told = await _continued(client, self.request(client.sdk, turn), streamed=streamed)
        given = turn.given(self.pending)
        first = self.check_requests(given)
        self.words += turn.words
        made = self.upstream.steps_of(first)
        self.links.append(Link(ids[0], first, [*given, *made]))
        made += self._add_hops(ids[1:])
        assert len(ids) == hops
        assert told == text_in(made)
        assert quoted(told, *self.words)

    async def say_from_checkpoint(self, client: Client, turn: Turn, after: int) -> None:
        """Take a turn whose stream breaks behind a token, from which the SDK goes on (contract 4.7)."""
        self.prepare()
        self.upstream.behave(f"checkpoint;after={after}")
        events = await client.stream(**self.request(client.sdk, turn))
        first, second = (event["interaction"]["id"] for event in events if event["event_type"] == _CREATED)
        given = turn.given(self.pending)
        upstream_id = self.check_requests(given)
        self.words += turn.words
        found = checkpoint_of((await self.gateway.events(first, headers=STEPS)).events)
        assert found is not None
        self.links.append(Link(first, upstream_id, [*given, *found[1]]))
        made = [*found[1], *self._add_hops([second])]
        assert streamed_text(events) == text_in(made)

    def _add_hops(self, ids: Sequence[str]) -> list[Json]:
        """Check the requests that went on with an answer, and count them in; returns what came of them."""
        seen = [seen for seen in self.upstream.requests if "continuation_token" in seen["body"]]
        before = len(self.links)
        for name, hop in zip(ids, seen, strict=True):
            assert hop["body"]["previous_interaction_id"] == self.links[-1].upstream_id
            assert "input" not in hop["body"]
            self.links.append(Link(name, hop["interaction"], self.upstream.steps_of(hop["interaction"])))
        return [step for link in self.links[before:] for step in link.steps]

    def check_requests(self, given: list[Json], *, moved: bool = False) -> str:
        """Check what upstream was sent for the turn with this input; returns the id that it gave its answer."""
        seen = [seen for seen in self.upstream.requests if _ends_with(seen["body"], given)]
        bodies = [one["body"] for one in seen]
        last = bodies[-1]
        if not self.links:
            assert len(bodies) == 1
            assert "previous_interaction_id" not in last
            assert steps_of(last["input"]) == given
        elif not (self.forgetful or moved):
            assert len(bodies) == 1
            self._check_reference(last, given)
        else:
            # What is lost is asked for once at the most; what another deployment has, not even once.
            assert len(bodies) <= (1 if moved else 2)
            for body in bodies[:-1]:
                self._check_reference(body, given)
                assert _others(body) == _others(last)
            assert "previous_interaction_id" not in last
            assert last["input"] == [*self.steps, *given]
        assert seen[-1]["status"] == 200
        upstream_id: str = seen[-1]["interaction"]
        return upstream_id

    def _check_reference(self, body: Json, given: list[Json]) -> None:
        assert body["previous_interaction_id"] == self.links[-1].upstream_id
        assert steps_of(body["input"]) == given


async def read_back(client: Client, events: list[Json]) -> Json:
    """The interaction whose events these are, by GET."""
    assert types_of(events)[-1] in _ENDS
    return await client.get(events[-1]["interaction"]["id"])


async def _continued(client: Client, request: Json, *, streamed: bool) -> tuple[list[str], str]:
    """The interactions of an answer that comes in hops, and its text; by hand where the SDK does not do it."""
    ids: list[str] = []
    told = ""
    while True:
        if streamed:
            events = await client.stream(**request)
            ids += [event["interaction"]["id"] for event in events if event["event_type"] == _CREATED]
            told += streamed_text(events)
            answer = events[-1]["interaction"]
        else:
            answer = await client.create(**request)
            ids += answer["continuation_ids"] if client.sdk.continues else [answer["id"]]
            told += text_of(answer)
        if answer["status"] != "requires_continuation":
            return ids, told
        token = {"continuation_token": answer["continuation_token"]}
        request = {**request, "input": OMITTED, "previous_interaction_id": answer["id"], "extra_body": token}


def user_step(says: str | Sequence[Json]) -> Json:
    """A user turn as upstream has to get it."""
    content = [text_part(says)] if isinstance(says, str) else list(says)
    return {"type": "user_input", "content": content}


def _model_step(text: str) -> Json:
    return {"type": "model_output", "content": [text_part(text)]}


def text_in(steps: Sequence[Json]) -> str:
    """All text of the model's outputs."""
    outputs = [step["content"] for step in steps if step["type"] == "model_output"]
    return "".join(part.get("text", "") for content in outputs for part in content)


def _made(steps: list[Json], given: list[Json]) -> list[Json]:
    """The steps without those that were given: what was fetched by GET may begin with them (contract 3.3)."""
    return steps[len(given) :] if steps[: len(given)] == given else steps


def _words(result: Any) -> list[str]:
    if isinstance(result, str):
        return [result]
    parts = result.values() if isinstance(result, dict) else (part["text"] for part in result)
    return [str(part) for part in parts]


def _ends_with(body: Json | None, given: list[Json]) -> bool:
    content = None if body is None else body.get("input")
    return content is not None and steps_of(content)[-len(given) :] == given


def _others(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("input", "previous_interaction_id")}
