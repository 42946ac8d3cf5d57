"""From `router_settings` to the rules of routing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast, get_args

from service.errors import ConfigurationError
from service.settings.model import RetriedError, RouterSettings, RoutingStrategy
from service.settings.section import Section
from service.settings.values import describe, given, integer, mapping, nearest, sequence, string, strings

_STRATEGIES: tuple[str, ...] = get_args(RoutingStrategy)
_ENFORCE = "enforce_model_rate_limits"
_CHECKS_OF_LITELLM = frozenset(
    {
        "deployment_affinity",
        "encrypted_content_affinity",
        "forward_client_headers_by_model_group",
        "prompt_caching",
        "responses_api_deployment_check",
        "router_budget_limiting",
        "session_affinity",
    }
)
_RETRIED: tuple[RetriedError, ...] = get_args(RetriedError)


def read_router(section: Section) -> RouterSettings:
    """How deployments are chosen; raises `ConfigurationError` for a value that cannot be used."""
    plain = RouterSettings()
    strategy = section.choice("routing_strategy", _STRATEGIES) or plain.routing_strategy
    return RouterSettings(
        routing_strategy=cast("RoutingStrategy", strategy),
        num_retries=given(section.integer("num_retries"), plain.num_retries),
        retry_after=given(section.seconds("retry_after", least=0), plain.retry_after),
        retry_ambiguous=given(section.flag("retry_ambiguous"), plain.retry_ambiguous),
        retry_policy=_retry_policy(section.name("retry_policy"), section.value("retry_policy")),
        retry_allowance=given(section.integer("retry_allowance"), plain.retry_allowance),
        timeout=section.seconds("timeout", above=0),
        stream_timeout=section.seconds("stream_timeout", above=0),
        stream_total_timeout=section.seconds("stream_total_timeout", above=0),
        connect_timeout=section.seconds("connect_timeout", above=0),
        first_byte_timeout=section.seconds("first_byte_timeout", above=0),
        fallbacks=_fallbacks(section.name("fallbacks"), section.value("fallbacks")),
        default_fallbacks=given(section.strings("default_fallbacks"), plain.default_fallbacks),
        max_fallbacks=given(section.integer("max_fallbacks"), plain.max_fallbacks),
        allowed_fails=given(section.integer("allowed_fails"), plain.allowed_fails),
        cooldown_time=given(section.seconds("cooldown_time", least=0), plain.cooldown_time),
        disable_cooldowns=given(section.flag("disable_cooldowns"), plain.disable_cooldowns),
        optional_pre_call_checks=given(
            section.choices("optional_pre_call_checks", (_ENFORCE,), _CHECKS_OF_LITELLM),
            plain.optional_pre_call_checks,
        ),
        shared_state_interval=given(
            section.seconds("shared_state_interval", above=0), plain.shared_state_interval
        ),
        model_group_alias=_aliases(section.name("model_group_alias"), section.value("model_group_alias")),
    )


def _retry_policy(name: str, value: object) -> Mapping[RetriedError, int]:
    """From LiteLLM's `{InternalServerErrorRetries: 0}`."""
    found: dict[RetriedError, int] = {}
    for key, number in mapping(name, {} if value is None else value).items():
        kind = next((kind for kind in _RETRIED if kind == key), None)
        if kind is None:
            raise ConfigurationError(
                f"{name}.{key}: no kind of error; the nearest is {nearest(str(key), _RETRIED)!r}"
            )
        if number is None:
            continue
        retries = integer(number)
        if retries is None or retries < 0:
            raise ConfigurationError(
                f"{name}.{kind}: expected an integer of at least 0, got {describe(number)}"
            )
        found[kind] = retries
    return MappingProxyType(found)


def _fallbacks(name: str, value: object) -> Mapping[str, tuple[str, ...]]:
    """From LiteLLM's list of one-entry mappings, `[{"a": ["b", "c"]}]`, or from one mapping."""
    found: dict[str, tuple[str, ...]] = {}
    items = [] if value is None else [value] if isinstance(value, dict) else sequence(name, value)
    for position, item in enumerate(items):
        for model, targets in mapping(f"{name}[{position}]", item).items():
            alias = string(f"{name}[{position}]", model)
            if alias in found:
                raise ConfigurationError(
                    f"{name}[{position}].{alias}: given twice; put its models in one list"
                )
            found[alias] = strings(f"{name}[{position}].{alias}", targets)
    return MappingProxyType(found)


def _aliases(name: str, value: object) -> Mapping[str, str]:
    """From `{alias: model}`; LiteLLM also writes `{alias: {model: NAME, hidden: true}}`."""
    found: dict[str, str] = {}
    for alias, target in mapping(name, {} if value is None else value).items():
        path = f"{name}.{string(name, alias)}"
        if isinstance(target, dict):
            path, target = f"{path}.model", target.get("model")
        found[string(name, alias)] = string(path, target)
    return MappingProxyType(found)
