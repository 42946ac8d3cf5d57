"""Deployments, and which of them could serve a request.

A caller may name a model by its alias (``model_name``), by ``gemini/<model>`` or by the bare ``<model>``. An alias
stands above a model that is called the same, both above a pattern, and a pattern above one that says less: so a name
does not reach a deployment, and its key, that the configuration has put under a narrower or another one. What a pattern
stands for in a name goes into the pattern of the deployment's model. Which one of several serves it is the router's to
choose (:mod:`service.upstream.routing`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urlsplit

from service.errors import ModelNotFound
from service.settings import DeploymentSettings, Settings
from service.upstream.connection import Origin
from service.upstream.transport import request_head
from service.wire.model_names import bare_name

#: The schema that upstream is always spoken to in (contract 1.4).
STEPS_REVISION = "2026-05-20"
_NAMES_IN_MESSAGE = 20
_LEAST_KEY = 8


@dataclass(frozen=True, slots=True)
class Deployment:
    """An upstream model behind one credential, with everything prepared that does not change between requests."""

    #: The id that records name.
    id: str
    settings: DeploymentSettings
    origin: Origin
    path: str
    headers: bytes
    #: Request line and fixed headers of a create.
    create_line: bytes
    #: Whether upstream is on this machine: only then do the emulator's own request headers travel on.
    local: bool

    def discreet(self, message: str) -> str:
        """A message without this deployment's key, which upstream has been seen to quote.

        What is too short for a key of Google's may be any word, and stays.
        """
        key = self.settings.api_key.reveal()
        return message.replace(key, "[key]") if len(key) >= _LEAST_KEY else message

    def line(self, method: str, upstream_id: str, suffix: str = "") -> bytes:
        """Request line and fixed headers of a call on one interaction."""
        return (
            f"{method} {self.path}/{quote(upstream_id, safe='')}{suffix} HTTP/1.1\r\n".encode() + self.headers
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Where one request goes; ``model`` is upstream's spelling, None for an agent."""

    deployment: Deployment
    model: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Everywhere that a request for one model or agent could go; ``name`` is the configuration's for it."""

    name: str
    routes: tuple[Route, ...]


def build(settings: DeploymentSettings, user_agent: str) -> Deployment:
    """Prepare a deployment; raises :class:`~service.errors.ConfigurationError` for a key or URL with a line break."""
    url = urlsplit(settings.api_base)
    tls = url.scheme == "https"
    host = url.hostname or ""
    headers = {
        "Host": url.netloc.rpartition("@")[2],
        "x-goog-api-key": settings.api_key.reveal(),
        "Api-Revision": STEPS_REVISION,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        # Nothing is decoded here, and without it any coding would do (RFC 9110 12.5.3).
        "Accept-Encoding": "identity",
        "User-Agent": user_agent,
    }
    path = f"{url.path}/{settings.api_version}/interactions"
    fixed = request_head("", path, headers).partition(b"\r\n")[2]
    return Deployment(
        settings.id,
        settings,
        Origin(host, url.port or (443 if tls else 80), tls),
        path,
        fixed,
        f"POST {path} HTTP/1.1\r\n".encode() + fixed,
        _is_local(url),
    )


class Deployments:
    """All deployments of this process, found by the names callers use."""

    def __init__(self, settings: Settings, user_agent: str) -> None:
        self._all = [build(entry, user_agent) for entry in settings.deployments]
        self._by_id = {deployment.id: deployment for deployment in self._all}
        self._default = None
        if settings.default_deployment is not None:
            self._default = build(settings.default_deployment, user_agent)
            self._by_id[self._default.id] = self._default
        self._aliases = dict(settings.router.model_group_alias)
        self._called = _Names()
        self._models = _Names()
        for deployment in self._all:
            self._called.add(deployment.settings.model_name, deployment)
            self._models.add(deployment.settings.model, deployment)

    def by_id(self, deployment_id: str) -> Deployment | None:
        """The deployment that a record names, or None when it is not configured any more."""
        return self._by_id.get(deployment_id)

    def upstreams(self) -> list[list[Deployment]]:
        """All deployments; those behind one address and credential, which have the same interactions, together."""
        groups: dict[tuple[Origin, str, bytes], list[Deployment]] = defaultdict(list)
        for deployment in self._by_id.values():
            groups[deployment.origin, deployment.path, deployment.headers].append(deployment)
        return list(groups.values())

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._by_id.values())

    def group(self, model: str | None, agent: str | None) -> Group:
        """Where a create for this model or agent could go; raises :class:`ModelNotFound`."""
        if model is None:
            found = self._for_agent(agent or "")
            return Group(agent or "", tuple(Route(deployment, None) for deployment in found))
        name = self._aliases.get(model, model)
        found = self._named(name)
        if not found and self._default is not None:
            found = [self._default]
        if not found:
            raise ModelNotFound(f"The model {model!r} is not configured. Known models: {self._known()}.")
        return Group(name, tuple(_route(deployment, name) for deployment in found))

    def spelling(self, deployment_id: str, model: str) -> str:
        """How upstream spells a model that was sent to this deployment; without prefixes where nobody has that."""
        deployment = self.by_id(deployment_id)
        name = self._aliases.get(model, model)
        return bare_name(name) if deployment is None else _spelled(deployment, name)

    def serves(self, deployment: Deployment, model: str | None, agent: str | None) -> bool:
        """Whether a create for this model or agent could go to this deployment; raises :class:`ModelNotFound`."""
        return any(route.deployment is deployment for route in self.group(model, agent).routes)

    def _named(self, name: str) -> list[Deployment]:
        bare = bare_name(name)
        return (
            self._called.exact(name)
            or self._models.exact(bare)
            or self._called.exact(bare)
            or self._called.matching(_spellings(name))
            or self._models.matching((bare,))
        )

    def _for_agent(self, agent: str) -> Sequence[Deployment]:
        found = (
            self._called.exact(agent)
            or self._models.exact(agent)
            or self._all
            or ([self._default] if self._default else [])
        )
        if not found:
            raise ModelNotFound(f"No deployment is configured that could run the agent {agent!r}.")
        return found

    def _known(self) -> str:
        names: Iterable[str] = dict.fromkeys(deployment.settings.model_name for deployment in self._all)
        shown = sorted(names)
        return (
            ", ".join(shown[:_NAMES_IN_MESSAGE]) + (", ..." if len(shown) > _NAMES_IN_MESSAGE else "")
            or "none"
        )


class _Names:
    """Deployments by names, which may be patterns."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Deployment]] = defaultdict(list)
        self._patterns: dict[str, list[Deployment]] = defaultdict(list)
        self._compiled: dict[str, re.Pattern[str]] = {}

    def add(self, name: str, deployment: Deployment) -> None:
        if "*" in name:
            self._patterns[name].append(deployment)
            self._compiled[name] = _compiled(name)
        else:
            self._exact[name].append(deployment)

    def exact(self, name: str) -> list[Deployment]:
        return self._exact.get(name, [])

    def matching(self, names: Sequence[str]) -> list[Deployment]:
        """Those of the pattern that says most of one of these names."""
        matching = [
            pattern
            for pattern, compiled in self._compiled.items()
            if any(compiled.fullmatch(name) for name in names)
        ]
        return self._patterns[max(matching, key=_says)] if matching else []


def _says(pattern: str) -> int:
    return len(pattern) - pattern.count("*")


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _spellings(name: str) -> tuple[str, ...]:
    """What a pattern may mean by a name; the first that it matches is the one whose parts it stands for."""
    bare = bare_name(name)
    return bare, f"gemini/{bare}", name


def _route(deployment: Deployment, name: str) -> Route:
    return Route(deployment, _spelled(deployment, name))


def _spelled(deployment: Deployment, name: str) -> str:
    return _filled(deployment.settings.model, deployment.settings.model_name, name)


def _filled(upstream: str, pattern: str, name: str) -> str:
    """Upstream's spelling: what the alias's ``*`` stand for in the name, in place of those of the model.

    The name itself, where the alias has fewer of them or is not what was asked for.
    """
    if "*" not in upstream:
        return upstream
    compiled = _compiled(pattern)
    for spelling in _spellings(name):
        if (match := compiled.fullmatch(spelling)) is not None:
            parts = match.groups()
            if len(parts) >= upstream.count("*"):
                return bare_name("".join(_alternated(upstream.split("*"), parts)))
    return bare_name(name)


def _alternated(texts: Sequence[str], parts: Sequence[str]) -> Iterator[str]:
    for place, text in enumerate(texts):
        yield text
        if place < len(texts) - 1:
            yield parts[place]


def _is_local(url: SplitResult) -> bool:
    host = url.hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
