"""Reports of replays, as documents and as pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.cli.printing import print_diff
from service.cli.report import Outcome, as_html, as_json


def outcome(text: dict[str, Any], calls: Any = None) -> Outcome:
    same = {"original": calls, "replay": calls, "same": True}
    comparison = {
        "status": {"original": "completed", "replay": "completed", "same": True},
        "text": text,
        "tool_calls": same,
        "usage": {"difference": {"total_tokens": 0}},
        "cost": {"difference": 0},
        "latency": {"difference": {"total_ms": 0}},
    }
    return Outcome("int_1", {"interaction": {"id": "int_2"}, "comparison": comparison}, None)


def test_a_document_has_numbers_of_any_size() -> None:
    calls = [{"name": "f", "arguments": {"n": 123456789012345678901234567890}}]
    told = json.loads(as_json([outcome({"same": True, "diff": ""}, calls)]))
    assert told["replays"][0]["comparison"]["tool_calls"]["original"] == calls


def test_a_page_shows_what_has_no_sign() -> None:
    page = as_html(
        [outcome({"same": False, "diff": "--- int_1\n+++ int_2\n@@ -1 +1 @@\n-a\r\n+a\u2028b\x85"})]
    )
    assert (
        '<span class="removed">-a␍</span>\n<span class="added">+a&lt;U+2028&gt;b&lt;U+0085&gt;</span>' in page
    )
    assert "The texts are the same." in as_html([outcome({"same": True, "diff": ""})])


def test_a_printed_diff_shows_what_has_no_sign(capsys: pytest.CaptureFixture[str]) -> None:
    print_diff("-a\r\n+\ta\u2029\x1b[31m\x7f\n ")
    assert capsys.readouterr().out == "-a␍\n+\ta<U+2029>␛[31m␡\n \n"


def test_tool_calls_and_errors_are_no_markup() -> None:
    calls = {"original": [{"name": "<b>", "arguments": {"n": "\u2028<i>"}}], "replay": [], "same": False}
    made = outcome({"same": True, "diff": ""})
    assert made.told is not None
    made.told["comparison"] |= {"tool_calls": calls, "errors": {"replay": {"code": "<c>", "message": "<m>"}}}
    page = as_html([made])
    assert (
        '<span class="removed">-&lt;b&gt; {&quot;n&quot;: &quot;&lt;U+2028&gt;&lt;i&gt;&quot;}</span>' in page
    )
    assert '<span class="added">+no calls</span>' in page
    assert '<p class="error">&lt;c&gt;: &lt;m&gt;</p>' in page
    assert not any(mark in page for mark in ("<b>", "<i>", "<c>", "<m>"))
