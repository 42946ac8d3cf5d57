from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UpstreamError
from service.wire.upstream_errors import (
    code_for_status,
    is_ambiguous,
    names_missing_reference,
    parse,
    refuses_key,
)


def answer(status: int, document: Any, headers: dict[str, str] | None = None) -> UpstreamError:
    return parse(status, orjson.dumps(document), headers or {})


def test_the_current_shape_is_kept_as_it_is() -> None:
    message = "The value 'invalid_tool_type_xyz' is not supported for 'type' at 'tools[0]'."
    error = answer(400, {"error": {"code": "invalid_request", "message": message}})
    assert (error.status, error.code, error.message, error.retry_after) == (
        400,
        "invalid_request",
        message,
        None,
    )


def test_the_front_ends_shape_is_understood() -> None:
    error = answer(
        401,
        [
            {
                "error": {
                    "code": 401,
                    "message": "API keys are not supported by this API.",
                    "status": "UNAUTHENTICATED",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                            "reason": "CREDENTIALS_MISSING",
                            "domain": "googleapis.com",
                        }
                    ],
                }
            }
        ],
    )
    assert error.body() == {
        "error": {"code": "authentication", "message": "API keys are not supported by this API."}
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("INVALID_ARGUMENT", "invalid_request"),
        ("FAILED_PRECONDITION", "failed_precondition"),
        ("OUT_OF_RANGE", "out_of_range"),
        ("UNAUTHENTICATED", "authentication"),
        ("PERMISSION_DENIED", "permission_denied"),
        ("NOT_FOUND", "not_found"),
        ("ALREADY_EXISTS", "already_exists"),
        ("ABORTED", "aborted"),
        ("RESOURCE_EXHAUSTED", "rate_limit_exceeded"),
        ("CANCELLED", "cancelled"),
        ("INTERNAL", "api_error"),
        ("UNKNOWN", "api_error"),
        ("DATA_LOSS", "api_error"),
        ("UNIMPLEMENTED", "unimplemented"),
        ("UNAVAILABLE", "service_unavailable"),
        ("DEADLINE_EXCEEDED", "deadline_exceeded"),
    ],
)
def test_status_names_become_wire_codes(name: str, code: str) -> None:
    assert answer(400, {"error": {"code": 400, "message": "m", "status": name}}).code == code
    assert answer(400, {"error": {"code": name, "message": "m"}}).code == code


def test_the_http_status_counts_and_not_the_text_or_the_code() -> None:
    error = answer(404, {"error": {"code": 403, "message": "v1_6440399a was not found"}})
    assert (error.status, error.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": "invalid_grant", "error_description": "Token has expired."}, "Token has expired."),
        ({"error": "invalid_grant"}, "invalid_grant"),
        ([{"error": {"message": "m"}}, {"error": {"message": "n"}}], "m"),
        ({"error": {}}, 'Upstream answered 500 with a body that carries no error message: {"error":{}}'),
        (
            {"error": {"message": 5}},
            'Upstream answered 500 with a body that carries no error message: {"error":{"message":5}}',
        ),
        ([], "Upstream answered 500 with a body that carries no error message: []"),
        (None, "Upstream answered 500 with a body that carries no error message: null"),
        ("oops", 'Upstream answered 500 with a body that carries no error message: "oops"'),
    ],
)
def test_other_json_is_read_as_far_as_it_goes(document: Any, message: str) -> None:
    error = answer(500, document)
    assert (error.code, error.message) == ("api_error", message)


def test_a_page_of_html_becomes_a_short_clean_message() -> None:
    page = b"<html>\r\n<head>\x00\x1b[31m<title>502 Bad Gateway</title>" + b"<p>x</p>" * 1000
    error = parse(502, page, {})
    assert error.code == "bad_gateway"
    assert error.message.startswith(
        "Upstream answered 502 with a non-JSON body: <html> <head> [31m<title>502"
    )
    assert len(error.message) < 260
    assert error.message.isprintable()


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\x00"])
def test_an_empty_body_says_so(body: bytes) -> None:
    assert parse(503, body, {}).body() == {
        "error": {"code": "service_unavailable", "message": "Upstream answered 503 with an empty body."}
    }


def test_retry_info_is_read_from_the_details() -> None:
    document = [
        {
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "You exceeded your current quota.",
                "details": [
                    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
                ],
            }
        }
    ]
    assert answer(429, document).retry_after == 34
    assert answer(429, document, {"Retry-After": "7"}).retry_after == 7


@pytest.mark.parametrize("delay", ["34", "s", "1m", "-1s", "1.s", 34, None, "١s"])
def test_a_retry_delay_of_another_form_is_ignored(delay: Any) -> None:
    document = {"error": {"message": "m", "details": [None, {"retryDelay": delay}]}}
    assert answer(429, document).retry_after is None


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"RETRY-AFTER-MS": "1500"}, 1.5),
        ({"retry-after": "12", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "1e308"}, 86_400.0),
        ({"retry-after": "9" * 30}, 86_400.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_headers_are_seconds_milliseconds_or_a_date(
    headers: dict[str, str], delay: float | None
) -> None:
    assert answer(429, {"error": {"message": "m"}}, headers).retry_after == delay


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (401, "authentication"),
        (402, "payment_required"),
        (403, "permission_denied"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (409, "aborted"),
        (413, "payload_too_large"),
        (416, "out_of_range"),
        (418, "im_a_teapot"),
        (429, "rate_limit_exceeded"),
        (499, "cancelled"),
        (500, "api_error"),
        (501, "unimplemented"),
        (502, "bad_gateway"),
        (503, "service_unavailable"),
        (504, "deadline_exceeded"),
        (470, "invalid_request"),
        (599, "api_error"),
    ],
)
def test_every_status_has_a_code(status: int, code: str) -> None:
    assert code_for_status(status) == code


@given(st.integers(400, 599), st.binary(max_size=80))
def test_no_body_is_too_strange(status: int, body: bytes) -> None:
    error = parse(status, body, {})
    assert error.status == status
    assert error.code
    assert error.message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "Interaction v1_ChdTMjQ0YWJ5TUF1 not found."),
        (404, "The previous_interaction_id 'v1_abc' was not found."),
        (400, "Previous interaction has expired."),
        (400, "Invalid previous_interaction_id."),
        (400, "The interaction referenced by previous_interaction_id does not exist."),
        (410, "This interaction is no longer available."),
        (404, "v1_ChdTMjQ0YWJ5TUF1 could not be found"),
    ],
)
def test_a_message_that_names_the_lost_reference_is_recognised(status: int, message: str) -> None:
    error = UpstreamError(status, "not_found" if status == 404 else "invalid_request", message)
    assert names_missing_reference(error)
    assert not is_ambiguous(error)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "model_not_found", "Model gemini-x is not found for this interaction."),
        (404, "not_found", "models/gemini-x is not found for API version v1, or is not supported."),
        (404, "not_found", "Model gemini-x was not found. Use it with the Interactions API."),
        (404, "not_found", "File files/abc123 not found."),
        (400, "parameter_unknown", "Unknown parameter 'previous_interaction_id'. Not found."),
        (400, "invalid_request", "The previous interaction is still in_progress and has not expired."),
        (400, "invalid_request", "The value is invalid for 'response_format' of the interaction."),
        (400, "invalid_request", "Request blocked due to safety."),
        (403, "permission_denied", "Interaction v1_abcdefgh not found."),
        (429, "rate_limit_exceeded", "Interaction not found."),
        (500, "api_error", "Failed to get completed interaction: Result not found."),
    ],
)
def test_other_refusals_are_not_taken_for_a_lost_reference(status: int, code: str, message: str) -> None:
    error = UpstreamError(status, code, message)
    assert not names_missing_reference(error)
    assert not is_ambiguous(error)


@pytest.mark.parametrize(
    ("status", "message", "ambiguous"),
    [
        (400, "Request contains an invalid argument.", True),
        (400, " request contains an invalid argument", True),
        (404, "Requested entity was not found.", True),
        (404, "Not found.", True),
        (400, "Request contains an invalid argument. Field 'tools'.", False),
        (500, "Request contains an invalid argument.", False),
        (401, "Not found.", False),
    ],
)
def test_a_catch_all_message_is_ambiguous(status: int, message: str, ambiguous: bool) -> None:
    error = UpstreamError(status, "invalid_request", message)
    assert is_ambiguous(error) is ambiguous
    assert not names_missing_reference(error)


def test_the_reason_is_read_from_the_details() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    document = [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": details}}]
    error = parse(400, orjson.dumps(document), {})
    assert (error.reason, error.code) == ("API_KEY_INVALID", "invalid_request")
    assert parse(400, b'{"error": {"message": "m", "details": [1, {"reason": 2}]}}', {}).reason is None


@pytest.mark.parametrize(
    ("status", "message", "reason", "refuses"),
    [
        (401, "m", None, True),
        (402, "m", None, True),
        (400, "m", "API_KEY_INVALID", True),
        (400, "API key not valid. Please pass a valid API key.", None, True),
        (400, "API key expired. Please renew the API key.", None, True),
        (403, "Your API key was reported as leaked. Please use another API key.", None, True),
        (403, "m", "SERVICE_DISABLED", True),
        (403, "The caller does not have permission", "IAM_PERMISSION_DENIED", False),
        (400, "Request contains an invalid argument.", None, False),
        (404, "API key not found", None, False),
        (429, "m", "RATE_LIMIT_EXCEEDED", False),
    ],
)
def test_a_refused_key_is_told_from_a_refused_request(
    status: int, message: str, reason: str | None, refuses: bool
) -> None:
    assert refuses_key(UpstreamError(status, "c", message, reason=reason)) is refuses
