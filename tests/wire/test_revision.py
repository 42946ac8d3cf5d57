from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from service.wire.revision import Revision, detect

PYTHON_3 = "google-genai-sdk/3.4.0 gl-python/3.11.7"
PYTHON_1 = "google-genai-sdk/1.75.0 gl-python/3.11.7"
TURNS: dict[str, Any] = {"input": [{"role": "user", "content": "Hello!"}]}


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("value", "revision"),
    [
        ("2026-05-20", Revision.STEPS),
        ("2027-01-01", Revision.STEPS),
        (" 2026-05-20 ", Revision.STEPS),
        ("2026-05-19", Revision.LEGACY),
        ("2026-05-07", Revision.LEGACY),
    ],
)
def test_an_explicit_revision_decides_against_every_other_sign(value: str, revision: Revision) -> None:
    client = PYTHON_1 if revision is Revision.STEPS else PYTHON_3
    assert detect(headers(("Api-Revision", value), ("x-goog-api-client", client)), TURNS) is revision


def test_a_single_turn_is_a_sign_as_well() -> None:
    turn = {"role": "user", "content": "Hello!"}
    assert detect(headers(), {"input": turn}) is Revision.LEGACY
    assert detect(headers(), {"input": {"type": "text", "text": "Hello!"}}) is Revision.EITHER


def test_a_version_beyond_all_numbers_is_a_new_one() -> None:
    client = ("User-Agent", f"google-genai-sdk/{'9' * 5000}")
    assert detect(headers(client), None) is Revision.STEPS


@pytest.mark.parametrize("value", ["", "latest", "2026-13-45", "20-05-2026"])
def test_a_revision_that_is_no_date_is_ignored(value: str) -> None:
    assert detect(headers(("Api-Revision", value)), None) is Revision.EITHER
    assert detect(headers(("Api-Revision", value), ("User-Agent", PYTHON_1)), None) is Revision.LEGACY


@pytest.mark.parametrize(
    ("client", "revision"),
    [
        (PYTHON_3, Revision.STEPS),
        (PYTHON_1, Revision.LEGACY),
        ("google-genai-sdk/3.1.0 gl-node/v20.1.0", Revision.STEPS),
        ("google-genai-sdk/1.33.0 gl-node/v20.1.0", Revision.LEGACY),
        ("google-genai-sdk/2.0.1 gl-node/v20.1.0", Revision.STEPS),
        ("google-genai-sdk/10.0.0 gl-python/3.14", Revision.STEPS),
        ("GeminiNextGenAPIClient/Python 1.55.0", Revision.LEGACY),
        ("GeminiNextGenAPIClient/Python 2.8.0", Revision.STEPS),
        ("speakeasy-sdk/python 2.19.0 2.800.0 1.0.0", Revision.STEPS),
        ("my-app/1.0 google-genai-sdk/1.60.0", Revision.LEGACY),
        ("curl/8.1.0", Revision.EITHER),
        ("python-httpx/0.28", Revision.EITHER),
    ],
)
@pytest.mark.parametrize("name", ["x-goog-api-client", "User-Agent"])
def test_the_sdk_announces_its_generation(name: str, client: str, revision: Revision) -> None:
    assert detect(headers((name, client)), None) is revision


def test_two_user_agents_of_an_old_sdk_are_no_obstacle() -> None:
    both = headers(("User-Agent", "GeminiNextGenAPIClient/Python 1.75.0"), ("User-Agent", PYTHON_1))
    assert detect(both, {"input": "Hello"}) is Revision.LEGACY


def test_the_api_client_header_counts_when_the_user_agent_says_nothing() -> None:
    assert (
        detect(headers(("User-Agent", "Mozilla/5.0"), ("x-goog-api-client", PYTHON_1)), None)
        is Revision.LEGACY
    )


@pytest.mark.parametrize(
    "body",
    [
        TURNS,
        {"input": [{"role": "user", "type": None, "content": "Hello!"}]},
        {"input": [{"type": "text", "text": "a"}, {"role": "model", "content": []}]},
        {"input": "a", "response_mime_type": "application/json"},
    ],
)
def test_a_legacy_body_is_recognised_without_headers(body: dict[str, Any]) -> None:
    assert detect({}, body) is Revision.LEGACY
    assert detect(headers(("User-Agent", PYTHON_3)), body) is Revision.STEPS


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"input": "role"},
        {"input": {"type": "text", "text": "a"}},
        {"input": [{"type": "user_input", "content": "a"}, "role", 3, None]},
        {"input": [{"role": "user", "type": "user_input", "content": "a"}]},
        {"input": "a", "response_mime_type": None},
    ],
)
def test_a_body_without_a_sign_is_either(body: dict[str, Any] | None) -> None:
    assert detect({}, body) is Revision.EITHER
