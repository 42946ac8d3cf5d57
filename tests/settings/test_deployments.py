"""What an entry of `model_list` becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from service.errors import ConfigurationError
from service.settings import DeploymentSettings, LoadedSettings, load


def read(
    tmp_path: Path, *entries: dict[str, object], environ: dict[str, str] | None = None
) -> LoadedSettings:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": list(entries)}), encoding="utf-8")
    return load(str(path), environ or {})


def entry(name: str = "flash", model: str = "gemini/gemini-2.5-flash", **params: object) -> dict[str, object]:
    return {"model_name": name, "litellm_params": {"model": model, "api_key": "k", **params}}


def one(tmp_path: Path, item: dict[str, object], **environ: str) -> DeploymentSettings:
    (deployment,) = read(tmp_path, item, environ=environ).settings.deployments
    return deployment


def refused(tmp_path: Path, *entries: dict[str, object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, *entries)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "model"),
    [
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini/tuned", "tuned"),
        ("deep-research-pro-preview-12-2025", "deep-research-pro-preview-12-2025"),
        ("gemini/*", "*"),
        ("*", "*"),
    ],
)
def test_the_model_is_in_upstreams_spelling(tmp_path: Path, spelling: str, model: str) -> None:
    assert one(tmp_path, entry(model=spelling)).model == model


def test_a_provider_given_apart_decides(tmp_path: Path) -> None:
    assert one(tmp_path, entry(model="tuned", custom_llm_provider="gemini")).model == "tuned"


def test_every_parameter_arrives(tmp_path: Path) -> None:
    item = entry(
        timeout="30s",
        stream_timeout=60,
        rpm="100",
        tpm=1000,
        weight=2,
        order=3,
        max_parallel_requests=4,
        retention="1d",
        input_cost_per_token="3e-07",
        api_base="https://proxy.example/google/v1beta/",
    ) | {"model_info": {"id": "dep-A", "input_cost_per_token": 1, "output_cost_per_token": 2, "team": "x"}}
    got = one(tmp_path, item)
    assert got.id == "dep-A"
    assert (got.timeout, got.stream_timeout, got.rpm, got.tpm) == (30.0, 60.0, 100, 1000)
    assert (got.weight, got.order, got.max_parallel_requests, got.retention) == (2.0, 3, 4, 86_400.0)
    assert (got.input_cost_per_token, got.output_cost_per_token) == (3e-07, 2.0)
    assert (got.api_base, got.api_version) == ("https://proxy.example/google", "v1beta")


@pytest.mark.parametrize(
    ("text", "seconds"), [("55d", 4_752_000), ("12h", 43_200), (90, 90), ("1w", 604_800)]
)
def test_retention_is_a_duration(tmp_path: Path, text: object, seconds: float) -> None:
    assert one(tmp_path, entry(retention=text)).retention == seconds


def test_a_limit_of_zero_is_no_limit(tmp_path: Path) -> None:
    got = one(tmp_path, entry(rpm=0, tpm=0, max_parallel_requests=0))
    assert (got.rpm, got.tpm, got.max_parallel_requests) == (None, None, None)


def test_an_explicit_version_wins(tmp_path: Path) -> None:
    assert one(tmp_path, entry(api_base="https://h/v1", api_version="v1alpha")).api_version == "v1alpha"


def test_key_and_base_default_to_the_environments(tmp_path: Path) -> None:
    got = one(tmp_path, entry(api_key=None), GEMINI_API_KEY="env", GEMINI_API_BASE="http://localhost:1")
    assert (got.api_key.reveal(), got.api_base) == ("env", "http://localhost:1")


def test_a_key_of_the_environment_that_can_be_none_names_its_variable() -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        with pytest.raises(ConfigurationError) as caught:
            load(None, {name: "schlüssel"})
        assert str(caught.value).startswith(f"{name}: holds a line break or a character beyond ASCII")


class TestIds:
    def test_derived_ids_are_stable_and_hold_no_key(self, tmp_path: Path) -> None:
        first, second = one(tmp_path, entry(api_key="a")), one(tmp_path, entry(api_key="b"))
        assert first.id == second.id

    def test_entries_that_differ_only_in_a_variable_keep_their_ids_when_reordered(
        self, tmp_path: Path
    ) -> None:
        a, b = entry(api_key="os.environ/A"), entry(api_key="os.environ/B")
        environ = {"A": "1", "B": "2"}
        forth = [d.id for d in read(tmp_path, a, b, environ=environ).settings.deployments]
        back = [d.id for d in read(tmp_path, b, a, environ=environ).settings.deployments]
        assert forth == back[::-1]
        assert len(set(forth)) == 2

    def test_identical_entries_get_ids_of_their_own(self, tmp_path: Path) -> None:
        deployments = read(tmp_path, entry(), entry()).settings.deployments
        assert len({d.id for d in deployments}) == 2

    def test_one_id_twice_is_refused(self, tmp_path: Path) -> None:
        item = entry() | {"model_info": {"id": "x"}}
        message = refused(tmp_path, item, item)
        assert message.startswith("model_list[1].model_info.id: 'x' is also the id of model_list[0]")


class TestOtherProviders:
    def test_they_are_skipped_with_a_warning(self, tmp_path: Path) -> None:
        foreign = entry(model="openai/gpt-4", api_key="os.environ/UNSET", whatever=1)
        loaded = read(tmp_path, foreign, entry(), entry(model="gpt-4"))
        assert [d.model for d in loaded.settings.deployments] == ["gemini-2.5-flash"]
        (warning,) = loaded.warnings
        assert "model_list[0], model_list[2]" in warning

    def test_none_left_is_refused(self, tmp_path: Path) -> None:
        assert refused(tmp_path, entry(model="openai/gpt-4")).startswith("model_list: no entry is for Gemini")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            entry(api_key=None),
            "model_list[0].litellm_params.api_key: missing; write os.environ/GEMINI_API_KEY",
        ),
        (entry(model=""), "model_list[0].litellm_params.model: missing"),
        (entry(model="gemini/"), "model_list[0].litellm_params.model: names no model"),
        (entry(name=""), "model_list[0].model_name: missing"),
        (
            entry(api_base="h"),
            "model_list[0].litellm_params.api_base: not an http(s) URL; write it as https://HOST",
        ),
        (entry(api_base="ftp://h"), "model_list[0].litellm_params.api_base: not an http(s) URL"),
        (entry(api_base="https://u:p@h"), "model_list[0].litellm_params.api_base: must have no user"),
        (entry(api_base="https://h:x"), "model_list[0].litellm_params.api_base: not a valid URL"),
        (
            entry(api_base="https://h h"),
            "model_list[0].litellm_params.api_base: holds a space or a character beyond ASCII; percent-encode",
        ),
        (entry(api_base="https://h/a\r\nX: y"), "model_list[0].litellm_params.api_base: holds a space"),
        (entry(api_base="https://h/ä"), "model_list[0].litellm_params.api_base: holds a space"),
        (entry(api_base="https://münchen.de"), "model_list[0].litellm_params.api_base: holds a space"),
        (
            entry(api_base="https://h..example"),
            "model_list[0].litellm_params.api_base: 'h..example' can be no host; write a name or an address",
        ),
        (entry(api_base="https://-h"), "model_list[0].litellm_params.api_base: '-h' can be no host"),
        (entry(api_base="https://h!"), "model_list[0].litellm_params.api_base: 'h!' can be no host"),
        (entry(api_base="https://h%20h"), "model_list[0].litellm_params.api_base: 'h%20h' can be no host"),
        (entry(api_base="https://1.2.3.444"), "model_list[0].litellm_params.api_base: '1.2.3.444' can be no"),
        (entry(api_base="https://" + "h" * 64), "model_list[0].litellm_params.api_base: 'hhhh"),
        (entry(api_base="https://" + "h." * 200), "model_list[0].litellm_params.api_base: 'h.h."),
        (
            entry(api_key="schlüssel"),
            "model_list[0].litellm_params.api_key: holds a line break or a character beyond ASCII",
        ),
        (entry(api_key="a\r\nX-Evil: 1"), "model_list[0].litellm_params.api_key: holds a line break"),
        (entry(api_key="a\x00b"), "model_list[0].litellm_params.api_key: holds a line break"),
        (entry(timeout="soon"), "model_list[0].litellm_params.timeout: expected seconds or a duration"),
        (entry(weight=-1), "model_list[0].litellm_params.weight: must be at least 0, got -1"),
        (
            entry(api_kye="k"),
            "model_list[0].litellm_params.api_kye: unknown to this service and to LiteLLM; the nearest",
        ),
        (
            {"model_name": "x", "litellm_params": "y"},
            "model_list[0].litellm_params: expected a mapping, got a string",
        ),
    ],
)
def test_an_entry_that_cannot_be_used_names_the_key(
    tmp_path: Path, item: dict[str, object], message: str
) -> None:
    assert refused(tmp_path, item).startswith(message)


def test_no_message_shows_a_key(tmp_path: Path) -> None:
    secret = "AIza-very-secret"
    assert secret not in refused(tmp_path, entry(api_key=secret, timeout="x"))
    assert secret not in refused(tmp_path, entry(api_key=[secret]))
    assert secret not in refused(tmp_path, entry(api_key=f"{secret}é"))
    assert secret not in repr(one(tmp_path, entry(api_key=secret)))
