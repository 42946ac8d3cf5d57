"""Files that cannot be read, keys nobody knows, and keys that only LiteLLM knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import keys, load

#: Every key that users of LiteLLM's `/interactions` bring along (contract, litellm.md section 2).
LITELLM = """
model_list:
  - model_name: gemini-flash
    litellm_params:
      model: gemini/gemini-2.5-flash
      api_key: os.environ/GEMINI_API_KEY
      api_base: https://host
      timeout: 60
      stream_timeout: 60
      rpm: 100
      tpm: 100000
      weight: 1
      order: 1
      max_parallel_requests: 10
      keepalive_seconds: 15
      input_cost_per_token: 3.0e-07
      output_cost_per_token: 2.5e-06
    model_info: {id: dep-A, base_model: x, input_cost_per_token: 0}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 2
  retry_after: 0
  timeout: 600
  stream_timeout: 60
  fallbacks: [{"gemini-dead": ["gemini-flash"]}]
  default_fallbacks: []
  max_fallbacks: 5
  allowed_fails: 1
  allowed_fails_policy: {}
  retry_policy: {InternalServerErrorRetries: 0, RateLimitErrorRetries: 3, NotFoundErrorRetries: 0, DefaultRetries: 2}
  cooldown_time: 20
  disable_cooldowns: true
  model_group_alias: {my-alias: gemini-flash}
  optional_pre_call_checks: [deployment_affinity, session_affinity, responses_api_deployment_check,
                             enforce_model_rate_limits]
  deployment_affinity_ttl_seconds: 3600
litellm_settings:
  callbacks: [my_module.handler, prometheus]
  success_callback: []
  failure_callback: []
  request_timeout: 600
  num_retries: 2
  drop_params: true
  cache: true
  turn_off_message_logging: false
  json_logs: true
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
  database_connection_pool_limit: 10
  store_prompts_in_spend_logs: true
  maximum_spend_logs_retention_period: 30d
  maximum_spend_logs_retention_interval: 1d
  disable_spend_logs: false
  allow_requests_on_db_unavailable: false
  proxy_batch_write_at: 10
  custom_auth: my_auth.user_api_key_auth
  dangerously_permit_weak_or_unset_master_key: false
  background_health_checks: true
  health_check_interval: 300
  alerting: ["slack"]
  max_parallel_requests: 0
  global_max_parallel_requests: 0
environment_variables: {}
"""


def refused(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigurationError) as caught:
        load(str(path), {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_a_configuration_of_litellms_loads_with_one_warning(path: Path) -> None:
    path.write_text(LITELLM, encoding="utf-8")
    environ = {
        "GEMINI_API_KEY": "k",
        "LITELLM_MASTER_KEY": "sk-something",
        "DATABASE_URL": "postgresql://u:p@h/d?connection_limit=5&sslmode=require",
    }
    loaded = load(str(path), environ)
    (warning,) = loaded.warnings
    for ignored in (
        "model_list[0].litellm_params.keepalive_seconds",
        "router_settings.allowed_fails_policy",
        "litellm_settings.callbacks",
        "general_settings.proxy_batch_write_at",
        "general_settings.dangerously_permit_weak_or_unset_master_key",
        "DATABASE_URL?connection_limit",
    ):
        assert ignored in warning
    for used in ("weight", "model_group_alias", "master_key,", "model_list[0].model_info.id"):
        assert f".{used}" not in warning.replace("unset_master_key", "")
    assert loaded.settings.database_url == "postgresql+asyncpg://u:p@h/d?sslmode=require"
    assert loaded.settings.router.cooldown_time == 20.0
    assert loaded.settings.router.retry_policy == {
        "InternalServerErrorRetries": 0,
        "RateLimitErrorRetries": 3,
        "NotFoundErrorRetries": 0,
        "DefaultRetries": 2,
    }
    assert loaded.settings.deployments[0].input_cost_per_token == 3.0e-07


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        (
            "litellm_settings: {max_budget: 1, budget_duration: 30d}",
            "litellm_settings.max_budget, litellm_settings.budget_duration",
        ),
        (
            "litellm_settings: {websearch_interception_params: {enabled_providers: [bedrock]}}",
            "litellm_settings.websearch_interception_params",
        ),
        ("mcp_builtin_servers: {zapier: {url: 'https://host'}}", "mcp_builtin_servers"),
        ("sandbox_tools: [{sandbox_tool_name: x}]", "sandbox_tools"),
        ("agent_settings: {vm_provider: noop}", "agent_settings"),
        ("general_settings: {debug: true, otel: true}", "general_settings.debug, general_settings.otel"),
        ("router_settings: {tag_routing_prefix: 'route:'}", "router_settings.tag_routing_prefix"),
        (
            "model_list: [{model_name: a, litellm_params: {model: gemini/a, api_key: k, tag_regex: [x]}}]",
            "model_list[0].litellm_params.tag_regex",
        ),
    ],
)
def test_what_only_litellm_knows_is_told_in_the_warning(path: Path, text: str, ignored: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert load(str(path), {}).warnings == (f"ignored LiteLLM's keys without meaning here: {ignored}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("litellm_settings: {budget_durations: 30d}", "the nearest known key is 'budget_duration'"),
        ("mcp_builtin_server: {}", "the nearest known key is 'mcp_builtin_servers'"),
        (
            "general_settings: {databse_url: x}",
            "general_settings.databse_url: unknown to this service and to LiteLLM; ",
        ),
        ("general_settings: {databse_url: x}", "the nearest known key is 'database_url'"),
        ("router_settings: {num_retry: 1}", "router_settings.num_retry"),
        ("router_settings: {num_retry: 1}", "the nearest known key is 'num_retries'"),
        (
            "modellist: []",
            "modellist: unknown to this service and to LiteLLM; the nearest known key is 'model_list'",
        ),
        ("router_settings: {drain_timeout: 1}", "'drain_timeout' belongs under general_settings"),
        (
            "model_list: [{model_name: a, litellm_params: {model: gemini/a, api_key: k}, "
            "model_info: {id: 'emulator:a'}}]",
            "model_list[0].model_info.id: what begins with 'emulator:' is the built-in emulator's",
        ),
        ("general_settings: {1: x}", "general_settings: the key 1 is an integer; quote it"),
        ("general_settings: [x]", "general_settings: expected a mapping, got a list"),
        ("model_list: {a: b}", "model_list: expected a list, got a mapping"),
        ("model_list: [x]", "model_list[0]: expected a mapping, got a string"),
        ("[]", "the configuration file: expected a mapping, got a list"),
        ("just text", "the configuration file: expected a mapping, got a string"),
        ("environment_variables: {A: [1]}", "environment_variables.A: expected a string, got a list"),
    ],
)
def test_a_mistake_names_the_key_and_the_remedy(path: Path, text: str, message: str) -> None:
    assert message in refused(path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "a: given twice"),
        ("general_settings:\n  port: 1\n  host: x\n  port: 2\n", "general_settings.port: given twice"),
        ("model_list:\n- {model_name: a, model_name: b}", "model_list[0].model_name: given twice"),
        ("environment_variables: {'<<': a, '<<': b}", "environment_variables.<<: given twice"),
        (
            "general_settings: {<<: {port: 1}, <<: {host: x, host: y}}",
            "general_settings.<<.host: given twice",
        ),
    ],
)
def test_a_key_given_twice_is_refused(path: Path, text: str, message: str) -> None:
    assert refused(path, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("environment_variables: &a {x: *a}", "environment_variables.x: an alias of what it stands in"),
        ("environment_variables: &a\n  x: {y: [1, *a]}\n", "environment_variables.x.y[1]: an alias"),
        ("model_list: &a [*a]", "model_list[0]: an alias"),
        ("model_list:\n- &a {model_name: x, litellm_params: *a}", "model_list[0].litellm_params: an alias"),
        (
            "general_settings: {retention_policies: &a [*a]}",
            "general_settings.retention_policies[0]: an alias",
        ),
        ("litellm_settings: {callbacks: &a {b: *a}}", "litellm_settings.callbacks.b: an alias"),
        ("router_settings: &a {<<: *a}", "router_settings.<<: an alias"),
        ("&a {x: *a}", "x: an alias"),
        ("&a [*a]", "[0]: an alias"),
        ("&a {? *a : 1}", "?: an alias"),
    ],
)
def test_an_anchor_within_itself_is_refused(path: Path, text: str, message: str) -> None:
    told = refused(path, text)
    assert told.startswith(message)
    assert f"({path}, line " in told


def test_merge_keys_and_anchors_work(path: Path) -> None:
    path.write_text(
        """
model_list:
  - &first
    model_name: a
    litellm_params: &params {model: gemini/a, api_key: k}
  - <<: *first
    model_name: b
    litellm_params: {<<: *params, rpm: 5}
""",
        encoding="utf-8",
    )
    first, second = load(str(path), {}).settings.deployments
    assert (first.model_name, second.model_name, second.model, second.rpm) == ("a", "b", "a", 5)


def test_several_mappings_can_be_merged_one_after_the_other(path: Path) -> None:
    path.write_text(
        """
model_list:
  - model_name: a
    litellm_params:
      <<: {api_key: k, rpm: 5}
      <<: [{tpm: 6}, {model: gemini/b, weight: 7}]
      model: gemini/a
""",
        encoding="utf-8",
    )
    (merged,) = load(str(path), {}).settings.deployments
    assert (merged.model, merged.rpm, merged.tpm, merged.weight) == ("a", 5, 6, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML at line 1, column 5"),
        ("a:\n\t- b", "not valid YAML at line 2"),
        ("a: !!python/object:os.system x", "not valid YAML at line 1"),
        ("a: *nowhere", "not valid YAML at line 1"),
        ("a: 2026-99-99", "not valid YAML"),
        ("--- a\n--- b", "not valid YAML"),
        ("[" * 100_000, "not valid YAML"),
        (b"a: \xff", "not UTF-8 text"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_told_in_one_line(path: Path, text: str | bytes, message: str) -> None:
    answer = refused(path, text)
    assert message in answer
    assert str(path) in answer


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            load(str(missing), {})
        assert str(missing) in str(caught.value)


def test_no_key_is_both_ours_and_ignored() -> None:
    for section in (keys.TOP, keys.MODEL, *keys.SECTIONS.values()):
        assert not section.ours & section.theirs
