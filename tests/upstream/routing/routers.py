"""Routers on a clock that tests move, and deployments that answer when the test says so."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from service.settings import DeploymentSettings, Secret, Settings
from service.settings.model import RouterSettings
from service.upstream.deployments import Deployments
from service.upstream.routing.course import NO_WISHES, Ask, Course, Wishes
from service.upstream.routing.retry import Failure, Kind
from service.upstream.routing.router import Router
from service.upstream.routing.state import State

MODEL = "gemini-2.5-flash"
BUSY = Failure(Kind.REFUSED, 503, "service_unavailable")
FORBIDDEN = Failure(Kind.FORBIDDEN, 403, "permission_denied")
KEY_REFUSED = Failure(Kind.KEY_REFUSED, 401, "authentication")
LIMITED = Failure(Kind.REFUSED, 429, "rate_limit_exceeded", retry_after=20.0)


class Clock:
    """Seconds as the test has them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def entry(id: str, name: str = "fast", model: str = MODEL, **members: Any) -> DeploymentSettings:  # noqa: A002
    members.setdefault("api_key", Secret(f"key of {id}"))
    return DeploymentSettings(id=id, model_name=name, model=model, **members)


class Routing:
    """A router, its clock and its stopwatch."""

    def __init__(self, *entries: DeploymentSettings, most: int = 100, **router: Any) -> None:
        fallbacks = MappingProxyType(router.pop("fallbacks", {}))
        settings = Settings(
            deployments=entries,
            router=RouterSettings(fallbacks=fallbacks, **router),
            max_concurrent_requests=most,
        )
        self.clock = Clock()
        self.stopwatch = Clock()
        self.router = Router(settings, Deployments(settings, "tests"), self.clock, self.stopwatch)

    def start(
        self,
        model: str = "fast",
        preferred: str | None = None,
        pinned: bool = False,
        wishes: Wishes = NO_WISHES,
    ) -> Course:
        return self.router.start(Ask(model, None, preferred, pinned, wishes))

    def state(self, name: str) -> State:
        state = self.router.state(name)
        assert state is not None
        return state

    def rest(self, name: str, failure: Failure = BUSY) -> None:
        """Let a deployment fail until it cools down."""
        while self.state(name).rest_until <= self.clock.now:
            self.state(name).failed(self.clock.now, 0.01, failure, probe=False)


def where(course: Course) -> str:
    return course.route.deployment.id
