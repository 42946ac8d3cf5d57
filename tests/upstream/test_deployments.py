from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import Any

import pytest

from service.errors import ConfigurationError, ModelNotFound
from service.settings import DeploymentSettings, Secret, Settings
from service.settings.model import RouterSettings
from service.upstream.connection import Origin
from service.upstream.deployments import Deployments, Route, build
from service.upstream.routing.course import Ask
from service.upstream.routing.router import Router
from service.wire.model_names import bare_name


def entry(id: str, model_name: str, model: str, **members: Any) -> DeploymentSettings:  # noqa: A002
    members.setdefault("api_key", Secret("key"))
    return DeploymentSettings(id=id, model_name=model_name, model=model, **members)


class Known:
    """Deployments, and where the router of a process sends what is asked for."""

    def __init__(self, settings: Settings) -> None:
        self.deployments = Deployments(settings, "tests/1")
        self._router = Router(settings, self.deployments)

    def route(self, model: str | None, agent: str | None, preferred: str | None = None) -> Route:
        return self._router.start(Ask(model, agent, preferred)).route


def deployments(*entries: DeploymentSettings, aliases: dict[str, str] | None = None, **members: Any) -> Known:
    router = RouterSettings(model_group_alias=MappingProxyType(aliases or {}))
    return Known(Settings(deployments=entries, router=router, **members))


FLASH = entry("flash", "fast", "gemini-2.5-flash")
PRO = entry("pro", "clever", "gemini-2.5-pro")


@pytest.mark.parametrize(
    "name", ["fast", "gemini-2.5-flash", "gemini/gemini-2.5-flash", "models/gemini-2.5-flash"]
)
def test_a_model_goes_by_alias_by_prefixed_and_by_bare_name(name: str) -> None:
    route = deployments(FLASH, PRO).route(name, None)
    assert (route.deployment.id, route.model) == ("flash", "gemini-2.5-flash")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gemini-3-pro", "gemini-3-pro"),
        ("gemini/gemini-3-pro", "gemini-3-pro"),
        ("models/gemini-3-pro", "gemini-3-pro"),
        ("gemini/models/gemini-3-pro", "gemini-3-pro"),
    ],
)
def test_a_wildcard_passes_the_callers_model_on(name: str, model: str) -> None:
    route = deployments(entry("any", "gemini/*", "*"), PRO).route(name, None)
    assert (route.deployment.id, route.model) == ("any", model)


def test_a_wildcard_serves_only_what_it_matches() -> None:
    known = deployments(entry("gemma", "gemma-*", "gemma-*"))
    assert known.route("gemma-3-27b", None).model == "gemma-3-27b"
    with pytest.raises(ModelNotFound):
        known.route("gemini-2.5-flash", None)


def test_an_exact_name_goes_before_a_wildcard() -> None:
    known = deployments(entry("any", "*", "*"), FLASH)
    assert known.route("fast", None).deployment.id == "flash"
    assert known.route("gemini/gemini-2.5-flash", None).deployment.id == "flash"
    assert known.route("gemini-2.5-pro", None).deployment.id == "any"


def test_an_alias_goes_before_a_model_of_the_same_name() -> None:
    known = deployments(
        entry("own", "gemini-2.5-flash", "gemini-2.5-flash"), entry("other", "cheap", "gemini-2.5-flash")
    )
    for name, found in (("gemini-2.5-flash", "own"), ("cheap", "other")):
        assert {known.route(name, None).deployment.id for _ in range(30)} == {found}
    both = {known.route("gemini/gemini-2.5-flash", None).deployment.id for _ in range(60)}
    assert both == {"own", "other"}


@pytest.mark.parametrize("prefix", ["", "gemini/", "models/"])
def test_the_pattern_that_says_most_goes_first(prefix: str) -> None:
    known = deployments(
        entry("any", "*", "*"), entry("gemini", "gemini/*", "*"), entry("new", "gemini/gemini-3*", "*")
    )
    for name, found in (("gemini-3-pro", "new"), ("gemini-2.5-pro", "gemini")):
        assert {known.route(prefix + name, None).deployment.id for _ in range(30)} == {found}


def test_a_model_that_is_named_goes_before_a_pattern() -> None:
    known = deployments(entry("any", "*", "*"), FLASH)
    assert {known.route("models/gemini-2.5-flash", None).deployment.id for _ in range(30)} == {"flash"}


def test_an_alias_with_a_wildcard_may_stand_for_one_model() -> None:
    route = deployments(entry("team", "team-*", "gemini-2.5-flash")).route("team-blue", None)
    assert route.model == "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("alias", "model", "asked", "sent"),
    [
        ("team-a/*", "*", "team-a/gemini-2.5-flash", "gemini-2.5-flash"),
        ("team-a/*", "*", "gemini/team-a/gemini-2.5-flash", "gemini-2.5-flash"),
        ("team-a/*", "gemini-*", "team-a/2.5-flash", "gemini-2.5-flash"),
        ("my-*", "gemini-*", "my-2.5-flash", "gemini-2.5-flash"),
        ("my-*-*", "gemini-*-preview-*", "my-2.5-09", "gemini-2.5-preview-09"),
        ("gemini/my-*", "gemini-*", "my-2.5-flash", "gemini-2.5-flash"),
        ("team-a/*", "*", "team-a/models/gemini-3-pro", "gemini-3-pro"),
        ("*", "gemini-*", "gemini/3-pro", "gemini-3-pro"),
        ("*", "*", "gemini/gemini-3-pro", "gemini-3-pro"),
        ("my-*", "gemini-*", "gemini-3-pro", "gemini-3-pro"),
        ("my-*", "gemini-*-*", "my-model", "my-model"),
    ],
)
def test_what_a_wildcard_stands_for_goes_into_the_models(
    alias: str, model: str, asked: str, sent: str
) -> None:
    assert deployments(entry("team", alias, model)).route(asked, None).model == sent


@pytest.mark.parametrize("name", ["fast", "gemini/fast", "models/fast"])
def test_an_alias_goes_before_a_pattern_with_and_without_prefix(name: str) -> None:
    route = deployments(FLASH, entry("any", "gemini/*", "*")).route(name, None)
    assert (route.deployment.id, route.model) == ("flash", "gemini-2.5-flash")


def test_a_group_alias_is_another_name_of_a_model() -> None:
    known = deployments(FLASH, PRO, aliases={"default": "clever", "old": "gemini-2.5-flash"})
    assert known.route("default", None).deployment.id == "pro"
    assert known.route("old", None).deployment.id == "flash"


@pytest.mark.parametrize(
    ("deployment_id", "model", "spelled"),
    [
        ("flash", "fast", "gemini-2.5-flash"),
        ("flash", "default", "gemini-2.5-flash"),
        ("any", "gemini/gemini-3-pro", "gemini-3-pro"),
        ("gone", "gemini/fast", "fast"),
    ],
)
def test_what_was_sent_to_a_deployment_is_spelled_as_its_upstream_does(
    deployment_id: str, model: str, spelled: str
) -> None:
    known = deployments(FLASH, entry("any", "gemini/*", "*"), aliases={"default": "fast"})
    assert known.deployments.spelling(deployment_id, model) == spelled


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(ModelNotFound) as caught:
        deployments(FLASH, PRO).route("gpt-9", None)
    assert caught.value.message == "The model 'gpt-9' is not configured. Known models: clever, fast."
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_of_many_known_models_some_are_told() -> None:
    many = [entry(f"d{number}", f"alias-{number:02}", f"gemini-{number}") for number in range(30)]
    with pytest.raises(ModelNotFound) as caught:
        deployments(*many).route("gpt-9", None)
    assert caught.value.message.endswith("alias-18, alias-19, ....")


def test_without_any_deployment_none_is_known() -> None:
    with pytest.raises(ModelNotFound, match="Known models: none"):
        deployments().route("gemini-2.5-flash", None)
    with pytest.raises(ModelNotFound, match="deep-research"):
        deployments().route(None, "deep-research")


def test_the_default_deployment_serves_what_no_other_does() -> None:
    known = deployments(FLASH, default_deployment=entry("default", "*", "*"))
    assert known.route("fast", None).deployment.id == "flash"
    route = known.route("gemini/gemini-9", None)
    assert (route.deployment.id, route.model) == ("default", "gemini-9")


def test_an_agent_runs_on_its_own_deployment_if_it_has_one() -> None:
    known = deployments(FLASH, entry("research", "deep-research-pro", "deep-research-pro"))
    route = known.route(None, "deep-research-pro")
    assert (route.deployment.id, route.model) == ("research", None)


def test_an_agent_runs_anywhere_otherwise() -> None:
    assert deployments(FLASH).route(None, "antigravity").deployment.id == "flash"
    known = deployments(default_deployment=entry("default", "*", "*"))
    assert known.route(None, "antigravity").deployment.id == "default"


TWINS = (entry("a", "fast", "gemini-2.5-flash"), entry("b", "fast", "gemini-2.5-flash"))


@pytest.mark.parametrize("preferred", ["a", "b"])
def test_a_follow_up_goes_where_its_parent_is(preferred: str) -> None:
    known = deployments(*TWINS)
    assert {known.route("fast", None, preferred).deployment.id for _ in range(50)} == {preferred}
    assert {known.route(None, "agent", preferred).deployment.id for _ in range(50)} == {preferred}


def test_a_preference_for_a_deployment_of_another_model_is_no_preference() -> None:
    known = deployments(*TWINS, PRO)
    assert {known.route("fast", None, "pro").deployment.id for _ in range(100)} == {"a", "b"}
    assert {known.route("fast", None, "gone").deployment.id for _ in range(100)} == {"a", "b"}


def shares(*weights: float) -> Counter[str]:
    known = deployments(*(entry(str(place), "fast", "m", weight=w) for place, w in enumerate(weights)))
    return Counter(known.route("fast", None).deployment.id for _ in range(4000))


def test_weights_are_shares() -> None:
    found = shares(3, 1)
    assert 2700 < found["0"] < 3300
    assert found.total() == 4000


def test_a_deployment_without_weight_is_spared() -> None:
    assert shares(1, 0) == {"0": 4000}


def test_deployments_all_without_weight_share_alike() -> None:
    found = shares(0, 0)
    assert 1700 < found["0"] < 2300


def test_a_record_finds_its_deployment_by_id() -> None:
    known = deployments(FLASH, default_deployment=entry("default", "*", "*"))
    for id_ in ("flash", "default"):
        found = known.deployments.by_id(id_)
        assert found is not None
        assert found.id == id_
    assert known.deployments.by_id("gone") is None


@pytest.mark.parametrize(
    ("base", "origin", "host", "path"),
    [
        ("https://example.test", Origin("example.test", 443, True), "example.test", ""),
        ("http://example.test", Origin("example.test", 80, False), "example.test", ""),
        ("http://127.0.0.1:8080/prefix", Origin("127.0.0.1", 8080, False), "127.0.0.1:8080", "/prefix"),
        ("http://[::1]:8080", Origin("::1", 8080, False), "[::1]:8080", ""),
    ],
)
def test_a_base_becomes_origin_host_and_path(base: str, origin: Origin, host: str, path: str) -> None:
    deployment = build(entry("d", "m", "m", api_base=base, api_version="v1"), "tests/1")
    assert deployment.origin == origin
    lines = deployment.create_line.decode().split("\r\n")
    assert lines[0] == f"POST {path}/v1/interactions HTTP/1.1"
    assert f"Host: {host}" in lines


def test_every_call_carries_key_and_revision() -> None:
    deployment = build(entry("d", "m", "m", api_key=Secret("s3cret")), "tests/1")
    for head in (deployment.create_line, deployment.line("GET", "v1_x")):
        lines = head.decode().split("\r\n")
        assert lines[-1] == ""
        assert {"x-goog-api-key: s3cret", "Api-Revision: 2026-05-20", "User-Agent: tests/1"} <= set(lines)


def test_an_upstream_id_cannot_leave_its_place_in_the_path() -> None:
    deployment = build(entry("d", "m", "m"), "tests/1")
    line = deployment.line("POST", "../x?y=1#z\r\nEvil: 1 é", "/cancel").partition(b"\r\n")[0]
    assert line == (b"POST /v1beta/interactions/..%2Fx%3Fy%3D1%23z%0D%0AEvil%3A%201%20%C3%A9/cancel HTTP/1.1")


@pytest.mark.parametrize(
    "members", [{"api_key": Secret("key\r\nEvil: 1")}, {"api_version": "v1 HTTP/1.1\r\nEvil: 1\r\n"}]
)
def test_nothing_configured_can_end_a_line_early(members: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="line break"):
        build(entry("d", "m", "m", **members), "tests/1")


@pytest.mark.parametrize(
    ("base", "local"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("https://generativelanguage.googleapis.com", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.test", False),
        ("http://127.0.0.1.example.test", False),
    ],
)
def test_only_this_machine_is_local(base: str, local: bool) -> None:
    assert build(entry("d", "m", "m", api_base=base), "tests/1").local is local


@pytest.mark.parametrize(
    ("name", "bare"),
    [("gemini/x", "x"), ("models/x", "x"), ("gemini/models/x", "x"), ("x", "x"), ("other/x", "other/x")],
)
def test_prefixes_are_taken_off_a_name(name: str, bare: str) -> None:
    assert bare_name(name) == bare


def test_messages_are_told_without_keys_and_words_stay() -> None:
    long = build(entry("a", "a", "a", api_key=Secret("AIza-0123")), "tests/1")
    assert long.discreet("bad key AIza-0123") == "bad key [key]"
    short = build(entry("b", "b", "b", api_key=Secret("model")), "tests/1")
    assert short.discreet("no such model") == "no such model"
