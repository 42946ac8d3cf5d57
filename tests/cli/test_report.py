"""Reports of replays, as documents and as pages."""

from __future__ import annotations

import json
from typing import Any

from service.cli.report import Outcome, as_json


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
