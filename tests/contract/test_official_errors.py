"""Official clients recognise every refusal: class, status, message (contract 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.contract.official import Client, SdkError
from tests.contract.reading import MODEL

UNKNOWN = "int_" + "a" * 26

CALLS_OF_AN_UNKNOWN_ID: dict[str, Callable[[Client], Awaitable[object]]] = {
    "get": lambda client: client.get(UNKNOWN),
    "get-stream": lambda client: client.get_stream(UNKNOWN),
    "cancel": lambda client: client.cancel(UNKNOWN),
    "delete": lambda client: client.delete(UNKNOWN),
    "continue": lambda client: client.create(model=MODEL, input="And?", previous_interaction_id=UNKNOWN),
    "continue-stream": lambda client: client.stream(
        model=MODEL, input="And?", previous_interaction_id=UNKNOWN
    ),
}
RATE_LIMIT = "status;code=429;retry_after=1;message=Slow down"


@pytest.mark.parametrize("call", CALLS_OF_AN_UNKNOWN_ID.values(), ids=CALLS_OF_AN_UNKNOWN_ID)
async def test_an_unknown_interaction_is_not_found(
    client: Client, call: Callable[[Client], Awaitable[object]]
) -> None:
    with pytest.raises(SdkError) as caught:
        await call(client)
    assert (caught.value.name, caught.value.status) == ("NotFoundError", 404)
    assert caught.value.events == []


@pytest.mark.parametrize(("shape", "attempts"), [("steps", 2), ("classic", 1)])
async def test_a_rate_limit_reaches_the_client_after_its_own_retries(
    client: Client, shape: str, attempts: int
) -> None:
    limited = client.having(headers={"x-emulator-fault": f"{RATE_LIMIT};shape={shape}"}, attempts=attempts)
    with pytest.raises(SdkError) as caught:
        await limited.create(model=MODEL, input="Again and again.")
    assert (caught.value.name, caught.value.status) == ("RateLimitError", 429)
    assert "Slow down" in caught.value.message
    assert caught.value.retry_after == "1"


async def test_a_rate_limit_before_a_stream_is_an_exception_and_not_an_event(client: Client) -> None:
    limited = client.having(headers={"x-emulator-fault": RATE_LIMIT})
    with pytest.raises(SdkError) as caught:
        await limited.stream(model=MODEL, input="Again.")
    assert (caught.value.name, caught.value.status) == ("RateLimitError", 429)
    assert caught.value.events == []


async def test_a_wrong_key_is_refused(client: Client) -> None:
    stranger = client.having(api_key="wrong-key")
    with pytest.raises(SdkError) as caught:
        await stranger.create(model=MODEL, input="Let me in.")
    assert (caught.value.name, caught.value.status) == ("AuthenticationError", 401)
    assert "wrong-key" not in caught.value.message


async def test_a_wrong_key_reads_nothing(client: Client) -> None:
    created = await client.create(model=MODEL, input="A secret.")
    stranger = client.having(api_key="wrong-key")
    with pytest.raises(SdkError) as caught:
        await stranger.get(created["id"])
    assert caught.value.status == 401
    assert "A secret." not in caught.value.message


async def test_an_empty_request_is_refused_in_words(client: Client) -> None:
    with pytest.raises(SdkError) as caught:
        await client.create(model=MODEL, input="")
    assert (caught.value.name, caught.value.status) == ("BadRequestError", 400)
    assert "input" in caught.value.message


async def test_the_message_of_upstream_travels(client: Client) -> None:
    fault = "status;code=403;error=permission_denied;message=The project is closed."
    refused = client.having(headers={"x-emulator-fault": fault})
    with pytest.raises(SdkError) as caught:
        await refused.create(model=MODEL, input="Open up.")
    assert (caught.value.name, caught.value.status) == ("PermissionDeniedError", 403)
    assert "The project is closed." in caught.value.message
