"""The description of the HTTP surface: complete, true, and proof against what schemathesis makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from aiohttp import web

from service.api.description import document
from service.api.keys import REQUESTS
from service.api.request_figures import Requests
from service.api.routes import add_routes
from tests.support.gateway import Gateway
from tests.support.processes import ServiceProcess

#: What a schema cannot say: which models there are, what Google takes for an input, what an id or a time is.
_NOT_CHECKED = "positive_data_acceptance"
#: The same handlers as those below ``/v1beta``.
_ALIKE = "^/(v1/|interactions)"


def routes() -> set[tuple[str, str]]:
    """Every method and path that is served."""
    app = web.Application()
    app[REQUESTS] = Requests()
    add_routes(app)
    return {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.method not in ("*", "HEAD") and route.resource is not None
    }


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(method, path) for path, operations in document()["paths"].items() for method in operations}
    assert described == routes()


def test_operations_have_names_of_their_own() -> None:
    names = [one["operationId"] for operations in document()["paths"].values() for one in operations.values()]
    assert len(names) == len(set(names))


async def test_filters_by_labels_are_described_by_what_their_names_begin_with(gateway: Gateway) -> None:
    for path in ("/api/interactions", "/api/export", "/api/usage"):
        parameters = document()["paths"][path]["get"]["parameters"]
        (labels,) = [one for one in parameters if one["name"] == "labels"]
        assert (labels["style"], labels["explode"]) == ("form", True)
        (pattern,) = labels["schema"]["patternProperties"]
        for name, described in (("label:team", True), ("label:", False), ("team", False)):
            assert bool(re.search(pattern, name)) == described
            reply = await gateway.request("GET", f"{path}?{name}=search")
            assert reply.status == (200 if described else 400), reply.raw


async def test_the_description_is_served_without_a_key(gateway: Gateway) -> None:
    reply = await gateway.request("GET", "/openapi.json")
    assert reply.status == 200
    assert reply.body["openapi"].startswith("3.1")
    assert reply.body == document()


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    database = tmp_path / "interactions.db"
    serving = ["serve", "--emulator", "--port", "0", "--database-url", f"sqlite:///{database}"]
    with ServiceProcess(serving, {"INTERACTIONS_MASTER_KEY": "test-key"}) as service:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
        options = [
            *("--header", "Authorization: Bearer test-key", "--no-color", "--generation-deterministic"),
            *("--phases", "coverage,fuzzing", "--max-examples", "3", "--continue-on-failure"),
            *("--exclude-checks", _NOT_CHECKED, "--request-timeout", "60"),
            *("--exclude-path-regex", _ALIKE),
        ]
        done = subprocess.run(
            command + options, capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path
        )
    assert done.returncode == 0, done.stdout[-8_000:]
