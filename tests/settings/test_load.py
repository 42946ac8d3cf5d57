"""Where values come from, what they become, and which of several wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import LoadedSettings, Secret, Settings, load

DAY = 86_400

EXAMPLE = """
model_list:
  - model_name: gemini-flash
    litellm_params:
      model: gemini/gemini-2.5-flash
      api_key: os.environ/GEMINI_API_KEY
"""


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "config.yaml")


class Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(
        self, text: str, environ: Mapping[str, str] | None = None, **overrides: object
    ) -> LoadedSettings:
        self._path.write_text(text, encoding="utf-8")
        return load(str(self._path), environ or {}, overrides)

    def error(self, text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self(text, environ, **overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message


def deployment(extra: str = "", model: str = "gemini/gemini-2.5-flash", key: str = "k") -> str:
    return f"""
model_list:
  - model_name: gemini-flash
    litellm_params: {{model: "{model}", api_key: "{key}"{", " + extra if extra else ""}}}
"""


def test_nothing_at_all_is_sqlite_on_loopback_without_an_upstream() -> None:
    loaded = load(None, {})
    assert loaded == LoadedSettings(Settings(), ())
    assert loaded.settings.database_url == "sqlite+aiosqlite:///interactions.db"
    assert (loaded.settings.host, loaded.settings.port) == ("127.0.0.1", 4000)
    assert loaded.settings.default_deployment is None


def test_an_empty_file_is_no_configuration(read: Reader) -> None:
    for text in ("", "\n# nothing\n", "---\n", "model_list:\ngeneral_settings:\n"):
        assert read(text) == LoadedSettings(Settings(), ())


def test_the_example_loads(read: Reader) -> None:
    loaded = read(EXAMPLE, {"GEMINI_API_KEY": "from-env"})
    (only,) = loaded.settings.deployments
    assert (only.model_name, only.model) == ("gemini-flash", "gemini-2.5-flash")
    assert only.api_key.reveal() == "from-env"
    assert only.api_base == "https://generativelanguage.googleapis.com"
    assert only.api_version == "v1beta"
    assert only.retention == 55 * DAY
    assert loaded.settings.default_deployment is None
    assert loaded.warnings == ()


class TestDefaultDeployment:
    def test_google_api_key_wins(self) -> None:
        default = load(None, {"GEMINI_API_KEY": "a", "GOOGLE_API_KEY": "b"}).settings.default_deployment
        assert default is not None
        assert default.api_key == Secret("b")
        assert (default.model_name, default.model) == ("*", "*")

    def test_an_empty_variable_is_not_set(self) -> None:
        default = load(None, {"GEMINI_API_KEY": "a", "GOOGLE_API_KEY": ""}).settings.default_deployment
        assert default is not None
        assert default.api_key == Secret("a")
        assert load(None, {"GEMINI_API_KEY": ""}).settings.default_deployment is None

    def test_the_base_comes_from_the_environment(self) -> None:
        environ = {"GEMINI_API_KEY": "a", "GEMINI_API_BASE": "http://localhost:4001/v1/"}
        default = load(None, environ).settings.default_deployment
        assert default is not None
        assert (default.api_base, default.api_version) == ("http://localhost:4001", "v1")

    def test_a_bad_base_names_the_variable(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^GEMINI_API_BASE: not an http"):
            load(None, {"GEMINI_API_KEY": "a", "GEMINI_API_BASE": "generativelanguage.googleapis.com"})

    def test_the_emulator_needs_no_key(self, read: Reader) -> None:
        settings = load(None, {}, {"emulator": True}).settings
        assert settings.emulator
        assert settings.default_deployment is not None
        assert read(EXAMPLE, emulator=True).settings.deployments[0].api_key.reveal()


class TestPrecedence:
    FILE = 'general_settings: {master_key: "file", database_url: "sqlite:///file.db", port: 1, host: "::1"}'

    def test_environment_over_file(self, read: Reader) -> None:
        environ = {"INTERACTIONS_MASTER_KEY": "env", "DATABASE_URL": "sqlite:///env.db"}
        settings = read(self.FILE, environ).settings
        assert settings.master_key == Secret("env")
        assert settings.database_url == "sqlite+aiosqlite:///env.db"
        assert (settings.host, settings.port) == ("::1", 1)

    def test_command_line_over_both(self, read: Reader) -> None:
        settings = read(
            self.FILE, {"DATABASE_URL": "sqlite:///env.db"}, database_url="sqlite:///cli.db", port=2
        )
        assert settings.settings.database_url == "sqlite+aiosqlite:///cli.db"
        assert settings.settings.port == 2

    def test_the_database_is_named_by_what_gave_it(self, read: Reader) -> None:
        environ = {"DATABASE_URL": "sqlite:///env.db"}
        assert read(self.FILE).settings.database_url_source == "general_settings.database_url"
        assert read(self.FILE, environ).settings.database_url_source == "DATABASE_URL"
        chosen = read(self.FILE, environ, database_url="sqlite:///cli.db").settings
        assert chosen.database_url_source == "--database-url"

    def test_an_override_of_none_is_not_given(self, read: Reader) -> None:
        assert read(self.FILE, port=None).settings.port == 1

    def test_an_unknown_override_is_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(TypeError, match="prt"):
            load(None, {}, {"prt": 1})

    def test_litellms_master_key_stands_in(self, read: Reader) -> None:
        environ = {"LITELLM_MASTER_KEY": "litellm"}
        assert load(None, environ).settings.master_key == Secret("litellm")
        assert read(self.FILE, environ).settings.master_key == Secret("file")
        assert load(None, environ | {"INTERACTIONS_MASTER_KEY": "ours"}).settings.master_key == Secret("ours")

    def test_a_replaced_reference_need_not_resolve(self, read: Reader) -> None:
        text = "general_settings: {database_url: os.environ/MISSING}"
        settings = read(text, database_url="sqlite:///cli.db").settings
        assert settings.database_url == "sqlite+aiosqlite:///cli.db"

    def test_the_files_variables_come_after_the_processs(self, read: Reader) -> None:
        text = EXAMPLE + "environment_variables: {GEMINI_API_KEY: from-file, DATABASE_URL: 'sqlite:///v.db'}"
        settings = read(text).settings
        assert settings.deployments[0].api_key == Secret("from-file")
        assert settings.database_url == "sqlite+aiosqlite:///v.db"
        assert read(text, {"GEMINI_API_KEY": "env"}).settings.deployments[0].api_key == Secret("env")

    def test_the_files_database_comes_before_its_variables(self, read: Reader) -> None:
        text = self.FILE + "\nenvironment_variables: {DATABASE_URL: 'sqlite:///v.db'}"
        assert read(text).settings.database_url == "sqlite+aiosqlite:///file.db"


class TestReferences:
    def test_anywhere(self, read: Reader) -> None:
        text = """
router_settings: {num_retries: os.environ/RETRIES, default_fallbacks: [os.environ/FALLBACK]}
general_settings: {port: os.environ/PORT, drain_timeout: os.environ/DRAIN}
"""
        settings = read(text, {"RETRIES": "4", "FALLBACK": "b", "PORT": "80", "DRAIN": "1m"}).settings
        assert settings.router.num_retries == 4
        assert settings.router.default_fallbacks == ("b",)
        assert (settings.port, settings.drain_timeout) == (80, 60.0)

    @pytest.mark.parametrize("environ", [{}, {"GEMINI_API_KEY": ""}])
    def test_a_missing_variable_names_key_and_variable(self, read: Reader, environ: dict[str, str]) -> None:
        message = read.error(EXAMPLE, environ)
        assert message.startswith("model_list[0].litellm_params.api_key: ")
        assert "GEMINI_API_KEY is not set" in message

    def test_what_means_nothing_here_is_not_followed(self, read: Reader) -> None:
        assert read("litellm_settings: {cache_params: {password: os.environ/REDIS}}").warnings


class TestGeneral:
    def test_our_own_keys(self, read: Reader) -> None:
        settings = read("""
general_settings:
  max_body_bytes: 1024
  history: local
  max_rebuild_bytes: 2048
  keep_media: true
  max_media_bytes: 4096
  adopt_unknown: true
  recorded_projects: tests
  retention_interval: 2h
  writer_queue_limit: 5
  drain_timeout: 0
  keep_alive_interval: 2.5
  idempotency_retention: 2h
  database_connection_pool_limit: 3
litellm_settings: {request_timeout: 90}
""").settings
        assert (settings.max_body_bytes, settings.history, settings.writer_queue_limit) == (1024, "local", 5)
        assert (settings.max_rebuild_bytes, settings.max_media_bytes) == (2048, 4096)
        assert (settings.keep_media, settings.adopt_unknown) == (True, True)
        assert (settings.drain_timeout, settings.database_connection_pool_limit) == (0.0, 3)
        assert (settings.keep_alive_interval, Settings().keep_alive_interval) == (2.5, 15.0)
        assert (settings.idempotency_retention, settings.request_timeout) == (7200.0, 90.0)
        assert (settings.recorded_projects, settings.retention_interval) == (("tests",), 7200.0)

    def test_litellms_size_limit_is_honoured(self, read: Reader) -> None:
        assert read("general_settings: {max_request_size_mb: 2}").settings.max_body_bytes == 2 * 1024 * 1024
        text = "general_settings: {max_request_size_mb: 2, max_body_bytes: 7}"
        assert read(text).settings.max_body_bytes == 7

    def test_brackets_around_an_address_are_dropped(self) -> None:
        assert load(None, {}, {"host": "[::1]"}).settings.host == "::1"

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("port: http", "general_settings.port: expected an integer, got a string"),
            ("lease_seconds: 0", "general_settings.lease_seconds: must be more than 0, got 0"),
            ("keep_alive_interval: 0", "general_settings.keep_alive_interval: must be more than 0, got 0"),
            ("poll_rate: 0", "general_settings.poll_rate: must be more than 0, got 0"),
            ("claim_batch: 0", "general_settings.claim_batch: "),
            ("background_timeout: soon", "general_settings.background_timeout: expected"),
            (
                "poll_interval: 5\n  poll_interval_max: 4",
                "general_settings.poll_interval_max: must be at least 5, got 4",
            ),
            ("port: 1.5", "general_settings.port: expected an integer, got a number"),
            ("port: true", "general_settings.port: expected an integer, got a boolean"),
            ("port: 65536", "general_settings.port: must be between 0 and 65535, got 65536"),
            ("host: 5", "general_settings.host: expected a string, got an integer; put it in quotes"),
            (
                "master_key: 1234",
                "general_settings.master_key: expected a string, got an integer; put it in quotes",
            ),
            (
                "max_body_bytes: 1.0e+99",
                "general_settings.max_body_bytes: must be between 1 and 1073741824, got",
            ),
            (
                "max_request_size_mb: 1.0e+99",
                "general_settings.max_request_size_mb: must be at most 1024, got 1e+99",
            ),
            ("max_body_bytes: []", "general_settings.max_body_bytes: expected an integer, got a list"),
            ("writer_queue_limit: 0", "general_settings.writer_queue_limit: must be at least 1, got 0"),
            ("idempotency_retention: 0", "general_settings.idempotency_retention: must be at least 1, got 0"),
            ("drain_timeout: -1", "general_settings.drain_timeout: must be at least 0, got -1"),
            ("drain_timeout: .nan", "general_settings.drain_timeout: expected seconds"),
            (
                "history: remote",
                "general_settings.history: 'remote' is not one of upstream, local; did you mean",
            ),
        ],
    )
    def test_a_wrong_value_names_the_key(self, read: Reader, line: str, message: str) -> None:
        assert read.error(f"general_settings:\n  {line}").startswith(message)

    def test_a_wrong_value_is_named_after_its_source(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: 'mysql' is not"):
            load(None, {"DATABASE_URL": "mysql://u:secret@h/d"})
        with pytest.raises(ConfigurationError, match=r"^--database-url: not a database URL"):
            load(None, {}, {"database_url": "interactions.db"})


class TestRouter:
    def test_litellm_settings_speak_where_the_router_is_silent(self, read: Reader) -> None:
        router = read("""
litellm_settings: {num_retries: 7, allowed_fails: 9, default_fallbacks: [x]}
router_settings: {num_retries: 1}
""").settings.router
        assert (router.num_retries, router.allowed_fails, router.default_fallbacks) == (1, 9, ("x",))

    def test_fallbacks_and_aliases_in_all_their_forms(self, read: Reader) -> None:
        router = read("""
router_settings:
  fallbacks: [{a: [b, c]}, {d: e}]
  model_group_alias: {x: a, y: {model: b, hidden: true}}
""").settings.router
        assert router.fallbacks == {"a": ("b", "c"), "d": ("e",)}
        assert router.model_group_alias == {"x": "a", "y": "b"}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (
                "routing_strategy: simple-shufle",
                "router_settings.routing_strategy: 'simple-shufle' is not one of",
            ),
            ("fallbacks: a", "router_settings.fallbacks: expected a list, got a string"),
            ("fallbacks: [a]", "router_settings.fallbacks[0]: expected a mapping, got a string"),
            ("fallbacks: [{a: [1]}]", "router_settings.fallbacks[0].a[0]: expected a string, got an integer"),
            ("fallbacks: [{a: b}, {a: c}]", "router_settings.fallbacks[1].a: given twice"),
            (
                "model_group_alias: {a: {}}",
                "router_settings.model_group_alias.a.model: expected a string, got nothing",
            ),
            (
                "disable_cooldowns: maybe",
                "router_settings.disable_cooldowns: expected a boolean, got a string",
            ),
            ("timeout: 0", "router_settings.timeout: must be more than 0, got 0"),
            (
                "retry_policy: {InternalServerRetries: 0}",
                "router_settings.retry_policy.InternalServerRetries: no kind of error; the nearest is "
                "'InternalServerErrorRetries'",
            ),
            (
                "retry_policy: {RateLimitErrorRetries: -1}",
                "router_settings.retry_policy.RateLimitErrorRetries: expected an integer of at least 0",
            ),
        ],
    )
    def test_a_wrong_value_names_the_key(self, read: Reader, line: str, message: str) -> None:
        assert read.error(f"router_settings:\n  {line}").startswith(message)

    @pytest.mark.parametrize(
        ("line", "path"),
        [
            ("fallbacks: [{gemini-flash: [gemini-flahs]}]", "fallbacks.gemini-flash"),
            ("default_fallbacks: [gemini-flahs]", "default_fallbacks"),
            ("model_group_alias: {x: {model: gemini-flahs}}", "model_group_alias.x"),
        ],
    )
    def test_a_model_that_nothing_serves_cannot_stand_in(self, read: Reader, line: str, path: str) -> None:
        message = read.error(f"{deployment()}router_settings:\n  {line}")
        assert message == (
            f"router_settings.{path}: no entry of model_list serves 'gemini-flahs'; the nearest known model is "
            "'gemini-flash'"
        )

    def test_models_stand_in_by_any_of_their_names(self, read: Reader) -> None:
        others = """
  - model_name: "pro/*"
    litellm_params: {model: "gemini/*", api_key: k}
  - model_name: gpt
    litellm_params: {model: openai/gpt-5}
router_settings:
  fallbacks: [{x: [gemini/gemini-2.5-flash, pro/a, gemini-3-pro, gpt]}, {gpt: [x]}]
  model_group_alias: {x: gemini-flash}
"""
        (warning,) = read(deployment() + others).warnings
        assert "no entry" not in warning

    def test_fallbacks_of_what_nothing_serves_are_a_warning(self, read: Reader) -> None:
        rules = "router_settings: {fallbacks: [{gemini-flahs: [gemini-flash]}]}"
        (warning,) = read(deployment() + rules).warnings
        assert (
            "no entry of model_list serves: router_settings.fallbacks.gemini-flahs (the nearest known model is "
            "'gemini-flash')"
        ) in warning

    def test_any_model_may_fall_back(self, read: Reader) -> None:
        rules = 'router_settings: {fallbacks: [{"*": [gemini-flash]}]}'
        loaded = read(deployment() + rules)
        assert loaded.warnings == ()
        assert loaded.settings.router.fallbacks == {"*": ("gemini-flash",)}

    def test_every_key_of_routing_has_an_effect(self, read: Reader) -> None:
        limits = "rpm: 10, tpm: 1000, weight: 2, order: 2, max_parallel_requests: 3"
        times = "timeout: 9, stream_timeout: 8, stream_total_timeout: 50, connect_timeout: 7, first_byte_timeout: 6"
        loaded = read(
            deployment(f"{limits}, {times}")
            + """
router_settings:
  routing_strategy: latency-based-routing
  num_retries: 3
  retry_after: 1
  retry_ambiguous: true
  fallbacks: [{gemini-flash: [gemini-2.5-flash]}]
  default_fallbacks: [gemini-2.5-flash]
  max_fallbacks: 2
  allowed_fails: 5
  cooldown_time: 1m
  disable_cooldowns: false
  timeout: 60
  stream_timeout: 50
  stream_total_timeout: 5m
  connect_timeout: 40
  first_byte_timeout: 30
  optional_pre_call_checks: [enforce_model_rate_limits]
  shared_state_interval: 2
general_settings: {max_concurrent_requests: 70}
"""
        )
        assert loaded.warnings == ()
        router, (only,) = loaded.settings.router, loaded.settings.deployments
        assert (router.retry_ambiguous, router.cooldown_time, router.shared_state_interval) == (True, 60, 2)
        assert (router.connect_timeout, router.first_byte_timeout) == (40, 30)
        assert (router.stream_total_timeout, only.stream_total_timeout) == (300, 50)
        assert router.optional_pre_call_checks == ("enforce_model_rate_limits",)
        assert (only.connect_timeout, only.first_byte_timeout, only.weight) == (7, 6, 2)
        assert loaded.settings.max_concurrent_requests == 70

    def test_checks_that_mean_nothing_here_are_told(self, read: Reader) -> None:
        checks = "prompt_caching, enforce_model_rate_limits, session_affinity"
        loaded = read(f"router_settings: {{optional_pre_call_checks: [{checks}]}}")
        assert loaded.settings.router.optional_pre_call_checks == ("enforce_model_rate_limits",)
        path = "router_settings.optional_pre_call_checks"
        (warning,) = loaded.warnings
        assert warning.endswith(f": {path}[0] (prompt_caching), {path}[2] (session_affinity)")

    @pytest.mark.parametrize("check", ["enforce_model_rate_limit", "nope", "Prompt_Caching"])
    def test_a_check_that_nobody_knows_is_refused(self, read: Reader, check: str) -> None:
        message = read.error(f"router_settings: {{optional_pre_call_checks: [prompt_caching, {check}]}}")
        assert message.startswith(f"router_settings.optional_pre_call_checks[1]: {check!r} is not one of ")
        for known in ("enforce_model_rate_limits", "router_budget_limiting", "session_affinity"):
            assert known in message

    def test_the_nearest_check_is_told(self, read: Reader) -> None:
        message = read.error("router_settings: {optional_pre_call_checks: enforce_model_rate_limit}")
        assert message.endswith("did you mean 'enforce_model_rate_limits'?")

    def test_a_value_from_litellm_settings_is_named_there(self, read: Reader) -> None:
        message = read.error("litellm_settings: {num_retries: x}")
        assert message.startswith("litellm_settings.num_retries: expected an integer")
