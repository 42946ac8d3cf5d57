"""What interactions cost: list prices by date and tier, deployments' own prices, and what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audit.measures import Modalities, modalities_of
from service.audit.prices import Prices
from service.settings import DeploymentSettings, Secret, Settings
from service.store.records import USAGE_FINAL, USAGE_MISSING

OWN = DeploymentSettings(
    id="own",
    model_name="flash",
    model="gemini-2.5-flash",
    api_key=Secret("none"),
    input_cost_per_token=0.000002,
    output_cost_per_token=0.00001,
)
HALF = DeploymentSettings(
    id="half", model_name="half", model="half", api_key=Secret("none"), input_cost_per_token=0.5
)
PRICES = Prices.of(Settings(deployments=(OWN, HALF)))


def priced(modalities: Modalities | None = None, **changes: Any) -> int | None:
    """The cost of a million tokens each way in October 2026, with changes."""
    plain: dict[str, Any] = {
        "usage_state": USAGE_FINAL,
        "deployment_id": "other",
        "model": "gemini-2.5-flash",
        "model_requested": "gemini-flash",
        "service_tier": "standard",
        "created_at": at(2026, 10, 20),
        "input_tokens": 1_000_000,
        "output_tokens": 1_000_000,
        "thought_tokens": 0,
        "cached_tokens": 0,
        "tool_use_tokens": 0,
        "total_tokens": 2_000_000,
    }
    return PRICES.nanos({**plain, **changes}, modalities or {})


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000


def test_the_list_price_is_that_of_the_model() -> None:
    assert priced() == 2_800_000_000
    assert priced(service_tier=None) == 2_800_000_000
    assert priced(model=None, model_requested="gemini/gemini-2.5-flash") == 2_800_000_000


def test_thoughts_are_output_and_what_tools_bring_is_input() -> None:
    assert priced(output_tokens=400_000, thought_tokens=600_000) == 2_800_000_000
    assert priced(input_tokens=400_000, tool_use_tokens=600_000) == 2_800_000_000


def test_cached_tokens_audio_and_searches_have_prices_of_their_own() -> None:
    assert priced(cached_tokens=1_000_000) == 2_530_000_000
    assert priced({"input": {"audio": 500_000, "text": 500_000}}) == 3_150_000_000
    assert priced({"grounding": {"google_search": 1_000}}) == 37_800_000_000


def test_the_price_is_that_of_the_day() -> None:
    before, after = at(2026, 12, 31), at(2027, 1, 1)
    assert priced(model="gemini-3.7-flash", created_at=before) == 4_500_000_000
    assert priced(model="gemini-3.7-flash", created_at=after) == 9_000_000_000


def test_the_price_is_that_of_the_tier() -> None:
    model = "gemini-3.8-flash-lite-tts"
    standard, flex = (priced(model=model, service_tier=tier) for tier in ("standard", "flex"))
    assert standard is not None
    assert flex is not None
    assert 0 < flex < standard


def test_the_price_is_that_of_a_deployment_that_has_one() -> None:
    assert priced(deployment_id="own") == 12_000_000_000
    assert priced(deployment_id="own", model="nobody-sells-this") == 12_000_000_000
    assert priced(deployment_id="own", input_tokens=0, output_tokens=0) == 0
    assert priced(deployment_id="half") == 2_800_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "nobody-sells-this"},
        {"model": None, "model_requested": None},
        {"model": "gemma-3"},
        {"service_tier": "flex"},
        {"usage_state": USAGE_MISSING},
        {"cached_tokens": 2_000_000},
    ],
)
def test_a_price_that_is_not_known_is_none(changes: dict[str, Any]) -> None:
    assert priced(**changes) is None


def test_what_makes_no_sense_by_modality_is_left_out() -> None:
    told = {
        "input_tokens_by_modality": [
            {"modality": "TEXT", "tokens": 7},
            {"modality": "text", "tokens": 3},
            {"modality": "image", "tokens": -1},
            {"modality": 5, "tokens": 1},
            {"tokens": 1},
            "nonsense",
        ],
        "output_tokens_by_modality": "nonsense",
        "grounding_tool_count": [{"type": "google_search", "count": 2}],
    }
    assert modalities_of(told) == {"input": {"text": 10}, "grounding": {"google_search": 2}}


@given(
    st.sampled_from(("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-3.5-flash")),
    *[st.integers(0, 2_000_000) for _ in range(4)],
)
def test_the_short_way_for_plain_text_leads_to_the_same_price(
    model: str, asked: int, tools: int, made: int, thought: int
) -> None:
    tokens: dict[str, Any] = {
        "model": model,
        "input_tokens": asked,
        "tool_use_tokens": tools,
        "output_tokens": made,
        "thought_tokens": thought,
    }
    # A count of what was not said takes the long way, and costs nothing.
    assert priced(**tokens) == priced({"grounding": {"retrieval": 1}}, **tokens)
