"""Trees of interactions as a client knows them, and the check of what upstream got for each of them.

The model keeps for every interaction the steps it said and the steps it was answered with; the path from the root is
their concatenation. For every upstream id it keeps the steps that upstream has seen under that id, counted from the
requests alone. A request is right when the two come to the same, whichever way it went.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, assert_never

from tests.interactions.conversations import checkpoint_of
from tests.interactions.scripts import (
    TOOLS,
    Action,
    Ask,
    Delete,
    Later,
    Lose,
    Said,
    Script,
    Together,
    Wipe,
    input_of,
    results_of,
)
from tests.support.gateway import LEGACY, STEPS, Gateway, eventually
from tests.support.replies import Json, Reply, Streamed
from tests.support.upstreams import Emulated, is_create

_ANCHORS = ("completed", "requires_action", "incomplete")
_HEADERS: dict[str, dict[str, str]] = {"steps": STEPS, "legacy": LEGACY, "unknown": {}}
#: The status that a node has here when nobody can read it.
_UNSTORED = "unstored"
#: Seconds that a background run takes at most.
_RUN = 10.0
_DAY = 86_400.0
_NOTHING = Said(..., [])
AGENT = "antigravity-preview-09-2026"


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment: the name callers use, the model behind it, and how long either side counts on a copy there."""

    name: str
    model: str
    upstream: Emulated = field(repr=False)
    #: Days for which upstream keeps a copy.
    keeps: float
    #: Whether the service takes a copy there to be alive.
    trusted: bool = True

    @property
    def key(self) -> str:
        """The key of the deployment."""
        return f"key-{self.name}"


@dataclass(slots=True)
class Node:
    """One interaction."""

    id: str
    parent: Node | None = field(repr=False)
    place: Place = field(repr=False)
    said: list[Json] = field(repr=False)
    made: list[Json] = field(repr=False)
    status: str
    born: float
    #: Upstream's id, where upstream was asked to keep it.
    upstream_id: str | None = None
    agent: bool = False
    token: str | None = None
    #: The token in the middle of its stream, and what it had made until then.
    checkpoint: tuple[str, list[Json]] | None = field(default=None, repr=False)
    #: Whether upstream has lost it, and whether the service has been told.
    lost: bool = False
    known_lost: bool = False
    deleted: bool = False

    @property
    def path(self) -> list[Json]:
        """All that was said from the root to here."""
        return [*(self.parent.path if self.parent else ()), *self.said, *self.sent_on]

    @property
    def sent_on(self) -> list[Json]:
        """What it made, or of an agent's work the report with which it ended (contract 5.5)."""
        return self.made[-1:] if self.agent else self.made

    @property
    def follows_agent(self) -> bool:
        """Whether an agent has run from the root to here."""
        return self.agent or (self.parent is not None and self.parent.follows_agent)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def calls(self) -> list[Json]:
        """The function calls that wait for their results."""
        waiting = self.status == "requires_action"
        return [step for step in self.made if step["type"] == "function_call"] if waiting else []


@dataclass(slots=True)
class Turn:
    """One create on its way: whom it follows, where it goes, what it says and what marks it."""

    ask: Ask
    parent: Node | None
    place: Place
    said: Said
    mark: str
    token: str | None = None
    #: How the answer said that upstream got the history.
    source: str = ""

    @property
    def body(self) -> Json:
        """The members of the request other than its input."""
        members: Json = {**self.actor, "system_instruction": self.mark}
        if self.ask.tools:
            members["tools"] = TOOLS[self.ask.tools]
        if self.parent is not None:
            alias = self.parent.upstream_id if self.ask.alias else None
            members["previous_interaction_id"] = alias or self.parent.id
        if self.token is not None:
            members["continuation_token"] = self.token
        if self.ask.way == "background":
            members["background"] = True
        if self.unstored:
            members["store"] = False
        return members

    @property
    def actor(self) -> Json:
        """Who is asked."""
        if self.ask.agent:
            return {"agent": AGENT, "environment": "remote"}
        return {"model": self.place.name}

    @property
    def headers(self) -> dict[str, str]:
        headers = dict(_HEADERS[self.ask.caller])
        if self.wish:
            headers["x-emulator-behavior"] = self.wish
        if self.ask.keeping == "local":
            headers["x-interactions-history"] = "local"
        return headers

    @property
    def wish(self) -> str:
        """The behaviour that is asked of the model, where that can be had."""
        wish = self.ask.wish
        if "continuation" in wish and (self.ask.keeping != "upstream" or self.ask.way == "background"):
            return ""
        if wish == "flat_outputs" and (self.ask.tools or self.ask.way == "stream"):
            return ""
        return "" if self.token is not None else wish

    @property
    def unstored(self) -> bool:
        return self.ask.keeping == "unstored" and self.ask.way != "background"

    @property
    def kept_upstream(self) -> bool:
        """Whether upstream is to keep a copy; what runs in its background it must."""
        return self.ask.keeping == "upstream" or self.ask.way == "background"

    @property
    def refers(self) -> bool:
        """Whether the service should count on upstream's copy of the parent."""
        parent = self.parent
        if parent is None or self.ask.keeping == "local":
            return False
        copied = parent.upstream_id is not None and not parent.known_lost
        return copied and parent.place is self.place and self.place.trusted


@dataclass(slots=True)
class Player:
    """Plays scripts to a service and checks every request that its upstreams get."""

    gateway: Gateway
    #: Deployments of models, and the one of the agent.
    places: Sequence[Place]
    agents: Place
    #: The URIs of files by their bytes, as both are sent.
    files: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    #: The steps that upstream has seen under each of its ids.
    held: dict[str, list[Json]] = field(default_factory=dict)
    now: float = 0.0
    marks: int = 0

    @property
    def upstreams(self) -> list[Emulated]:
        return list(dict.fromkeys(place.upstream for place in (*self.places, self.agents)))

    @property
    def anchors(self) -> list[Node]:
        """What can be continued, the newest first."""
        return [node for node in reversed(self.nodes) if node.status in _ANCHORS and not node.deleted]

    async def play(self, script: Script) -> None:
        """Do everything in the script, then continue whatever can be after all upstreams have forgotten it."""
        self._clear()
        for action in script:
            await self._act(action)
        for upstream in range(len(self.upstreams)):
            await self._act(Wipe(upstream))
        for anchor in self.anchors:
            await self._ask([self._turn(Ask(0, "the end", answers=False), anchor)])
        for node in self.nodes:
            await self._reread(node)

    async def _act(self, action: Action) -> None:
        match action:
            case Ask():
                await self._ask([self._turn(action, self._anchor(action))])
            case Together():
                await self._ask([self._turn(ask, self._anchor(ask)) for ask in action.asks])
            case Wipe():
                self._wipe(self.upstreams[action.upstream])
            case Lose():
                self._lose(action)
            case Later():
                self._pass(action.days)
            case Delete():
                await self._delete(action)
            case _:
                assert_never(action)

    def _anchor(self, ask: Ask) -> Node | None:
        anchors = self.anchors
        return None if ask.anchor is None or not anchors else anchors[ask.anchor % len(anchors)]

    def _turn(self, ask: Ask, parent: Node | None) -> Turn:
        self.marks += 1
        mark = f"turn {self.marks}"
        words = f"{self.marks}: {ask.words}"
        if ask.agent and parent is not None and (parent.calls or parent.follows_agent):
            ask = ask._replace(agent=False)
        place = self.agents if ask.agent else self.places[ask.place]
        said = self._pictured(place, words) if ask.picture else input_of(ask, words)
        if parent is not None and parent.calls and ask.answers:
            said = results_of(ask, parent.calls, words)
        return Turn(ask, parent, place, said, mark)

    def _pictured(self, place: Place, words: str) -> Said:
        """Words and a picture that upstream has in a file."""
        body = b"\x89PNG" + words.encode("utf-8", "surrogatepass")
        uri = place.upstream.put_file(body, key=place.key)
        self.files[b64encode(body).decode()] = uri
        picture = {"type": "image", "uri": uri, "mime_type": "image/png"}
        content = [{"type": "text", "text": words}, picture]
        return Said(content, [{"type": "user_input", "content": content}])

    async def _ask(self, turns: list[Turn]) -> None:
        """Take turns at the same time; a race may make a reference a rebuild, since a loss is told to all."""
        expected = [self._expected(turn) for turn in turns]
        made = await asyncio.gather(*(self._take(turn) for turn in turns))
        for turn, kinds, node in zip(turns, expected, made, strict=True):
            got = self._check(turn, node)
            assert got[-1] == turn.source
            assert got == kinds or (len(turns) > 1 and got == kinds[-1:] == ["rebuilt"]), (turn, got, kinds)
        self._clear()
        for turn, node in zip(turns, made, strict=True):
            self.nodes.append(node)
            if turn.ask.picture:
                await eventually(self._has_kept_files)
            await self._continue(turn, node)

    async def _has_kept_files(self) -> bool:
        return await self.gateway.database.notes("media") == 0

    def _expected(self, turn: Turn) -> list[str]:
        """How the creates of a turn give upstream its history."""
        if turn.parent is None:
            return ["none"]
        if turn.token is not None:
            return ["upstream"]
        if not turn.refers:
            return ["rebuilt"]
        if self._alive(turn.parent):
            return ["upstream"]
        return ["upstream", "rebuilt"]

    def _alive(self, node: Node) -> bool:
        return node.upstream_id is not None and not node.lost and self.now < node.born + node.place.keeps

    async def _take(self, turn: Turn) -> Node:
        """Create, and look at what came of it."""
        reply = await self._created(turn)
        turn.source = reply.headers["x-interactions-history"]
        assert reply.headers["x-interactions-history-links"] == str(
            turn.parent.depth + 1 if turn.parent else 0
        )
        name = reply.headers["x-interaction-id"]
        if turn.unstored:
            assert (await self.gateway.get(name)).status == 404
            return Node(name, turn.parent, turn.place, turn.said.means, [], _UNSTORED, self.now)
        if turn.ask.way == "background":
            turn.place.upstream.clock.advance(_RUN)
            await self.gateway.finished(name)
        got = await self.gateway.got(name)
        return Node(
            id=name,
            parent=turn.parent,
            place=turn.place,
            said=turn.said.means,
            made=_after(got.body["steps"], turn.said.means),
            status=got.body["status"],
            born=self.now,
            upstream_id=got.headers.get("x-upstream-interaction-id"),
            agent=turn.ask.agent,
            token=got.body.get("continuation_token"),
            checkpoint=checkpoint_of(reply.events) if isinstance(reply, Streamed) else None,
        )

    async def _created(self, turn: Turn) -> Reply | Streamed:
        given: Json = {} if turn.said.sent is ... else {"input": turn.said.sent}
        if turn.ask.way == "stream":
            streamed = await self.gateway.stream(given.get("input", ...), headers=turn.headers, **turn.body)
            assert streamed.final
            return streamed
        reply = await self.gateway.post({**given, **turn.body}, **turn.headers)
        assert reply.status == 200, (turn, reply.raw)
        return reply

    def _check(self, turn: Turn, node: Node) -> list[str]:
        """Hold every create of a turn against the path from the root; returns how each gave upstream its history."""
        creates = [seen for seen in self._creates() if seen["body"].get("system_instruction") == turn.mark]
        assert creates, turn
        before = turn.parent.path if turn.parent else []
        path = [*before, *turn.said.means]
        # A token from the middle of a stream stands for what had been made until then.
        held = {turn.parent.upstream_id: before} if turn.parent and turn.token else self.held
        kinds = []
        for seen in creates:
            body = seen["body"]
            reference = body.get("previous_interaction_id")
            given = _steps(body.get("input", []), turn.said)
            assert self._compared([*held.get(reference, ()), *given]) == self._compared(path), turn
            # No file is taken to live but those of the request itself.
            assert reference or not _uris(given[: len(given) - len(turn.said.means)])
            assert (body.get("model"), body.get("agent")) == (
                (None, AGENT) if turn.ask.agent else (turn.place.model, None)
            )
            assert body.get("tools", []) == TOOLS[turn.ask.tools]
            assert body.get("store", True) is turn.kept_upstream
            if reference is not None:
                assert turn.parent is not None
                assert reference == turn.parent.upstream_id
            kinds.append("upstream" if reference else "rebuilt" if turn.parent else "none")
        assert [seen["status"] == 200 for seen in creates] == [False] * (len(creates) - 1) + [True]
        assert creates[-1]["interaction"] == node.upstream_id
        if node.upstream_id is not None:
            self.held[node.upstream_id] = path + node.sent_on
            if turn.wish != "flat_outputs":
                assert node.made == turn.place.upstream.steps_of(node.upstream_id), turn
        if turn.parent is not None and len(creates) > 1:
            turn.parent.known_lost = True
        return kinds

    def _compared(self, steps: list[Json]) -> list[Json]:
        """The same for a picture that is sent as bytes and for one that is named."""

        def shown(content: Json) -> Json:
            uri = self.files.get(content.get("data", ""))
            return {**_without(content, "data"), "uri": uri} if uri else content

        return [
            {**step, "content": [shown(content) for content in step["content"]]}
            if step["type"] == "user_input" and isinstance(step["content"], list)
            else step
            for step in steps
        ]

    def _clear(self) -> None:
        for upstream in self.upstreams:
            upstream.clear()

    def _creates(self) -> list[Json]:
        return [seen for upstream in self.upstreams for seen in upstream.requests if is_create(seen)]

    async def _continue(self, turn: Turn, node: Node) -> None:
        """What SDKs do after `requires_continuation` or a checkpoint: a link without input, at once (contract 4.7)."""
        token, parent = node.token, node
        if node.checkpoint is not None:
            token, made = node.checkpoint
            parent = replace(node, made=made)
        if token is None:
            return
        self.marks += 1
        ask = turn.ask._replace(alias=False)
        await self._ask([Turn(ask, parent, turn.place, _NOTHING, f"turn {self.marks}", token)])

    def _wipe(self, upstream: Emulated) -> None:
        upstream.forget()
        for node in self.nodes:
            node.lost = node.lost or node.place.upstream is upstream

    def _lose(self, action: Lose) -> None:
        there = [node for node in reversed(self.nodes) if self._alive(node)]
        if there:
            node = there[action.node % len(there)]
            assert node.upstream_id is not None
            node.place.upstream.forget(node.upstream_id)
            node.lost = True

    def _pass(self, days: float) -> None:
        self.now += days
        for upstream in self.upstreams:
            upstream.clock.advance(days * _DAY)

    async def _delete(self, action: Delete) -> None:
        """Delete a node: it can be neither read nor continued after that, and nothing is asked of upstream for it."""
        there = [node for node in reversed(self.nodes) if node.status != _UNSTORED and not node.deleted]
        if not there:
            return
        node = there[action.node % len(there)]
        assert (await self.gateway.delete(node.id)).status == 200
        node.deleted = node.lost = True
        self._clear()
        await self.gateway.refused(404, model=node.place.name, previous_interaction_id=node.id)
        assert self._creates() == []

    async def _reread(self, node: Node) -> None:
        """What was answered once is answered for ever, or never again."""
        reply = await self.gateway.get(node.id)
        if node.deleted or node.status == _UNSTORED:
            assert reply.status == 404
        else:
            assert _after(reply.body["steps"], node.said) == node.made, node


def _after(timeline: list[Json], said: list[Json]) -> list[Json]:
    """What the model made; a GET may show what was said before it (contract 3.3)."""
    shown = bool(said) and _compact(timeline[: len(said)]) == _compact(said)
    return timeline[len(said) :] if shown else timeline


def _steps(given: Any, said: Said) -> list[Json]:
    """The steps of an input that upstream got, which must be in today's schema."""
    if given == said.sent:
        return said.means
    assert isinstance(given, list)
    return given


def _uris(steps: list[Json]) -> list[str]:
    contents = [step["content"] for step in steps if step["type"] == "user_input"]
    return [content["uri"] for content in chain.from_iterable(contents) if "uri" in content]


def _without(content: Json, name: str) -> Json:
    return {member: value for member, value in content.items() if member != name}


def _compact(value: Any) -> Any:
    """Without null members, which upstream does not repeat."""
    if isinstance(value, dict):
        return {name: _compact(part) for name, part in value.items() if part is not None}
    return [_compact(part) for part in value] if isinstance(value, list) else value
