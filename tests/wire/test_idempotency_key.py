"""The header's syntax, and what makes two requests the same."""

from __future__ import annotations

import pytest

from service.errors import InvalidRequest
from service.wire import codec
from service.wire.idempotency_key import fingerprint, parse

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def digest(text: str) -> bytes:
    return fingerprint(codec.loads(text.encode()))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([f'"{UUID}"'], UUID),
        ([UUID], UUID),
        ([f'  "{UUID}"\t'], UUID),
        (['"with space"'], "with space"),
        (['"a,b;c"'], "a,b;c"),
        ([r'"quote \" and \\"'], r"quote \" and \\".replace(r"\"", '"').replace(r"\\", "\\")),
        (['"key";a=1; b'], "key"),
        (["ord/2026:17=A+b@c"], "ord/2026:17=A+b@c"),
        (["k" * 255], "k" * 255),
        (["k", '"k"', "k"], "k"),
    ],
)
def test_a_key_may_be_quoted_or_bare(values: list[str], key: str | None) -> None:
    assert parse(values) == key


@pytest.mark.parametrize(
    "value",
    [
        "",
        '""',
        "   ",
        "two words",
        "a, b",
        "a;b",
        '"open',
        'clo"sed',
        r'"bad \escape"',
        '"a" "b"',
        '"ünlaut"',
        "ünlaut",
        "nul\0",
        "k" * 256,
        f'"{"k" * 256}"',
    ],
)
def test_anything_else_is_refused_with_the_headers_name(value: str) -> None:
    with pytest.raises(InvalidRequest, match="'Idempotency-Key'"):
        parse([value])


def test_different_keys_in_one_request_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 different values of 'Idempotency-Key'; send one"):
        parse(["a", "b", "a"])


@pytest.mark.parametrize(
    "text",
    [
        '{"model":"m","input":{"type":"text","text":"é"}}',
        '{ "input": {"text": "\\u00e9", "type": "text"},\n "model": "m" }',
    ],
)
def test_one_document_has_one_fingerprint_however_it_is_written(text: str) -> None:
    assert digest(text) == digest('{"input":{"type":"text","text":"é"},"model":"m"}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"input":"a"}', '{"input":"b"}'),
        ('{"input":["a","b"]}', '{"input":["b","a"]}'),
        ('{"input":"a"}', '{"input":"a","stream":true}'),
        ('{"seed":1}', '{"seed":"1"}'),
        ('{"seed":123456789012345678901234567890}', '{"seed":123456789012345678901234567891}'),
    ],
)
def test_other_documents_have_others(one: str, other: str) -> None:
    assert digest(one) != digest(other)
