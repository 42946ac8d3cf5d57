"""Calls google-genai on behalf of a test, under whichever version of it this interpreter has.

Reads one call per line of standard input and writes one outcome per line of standard output, both JSON; the
first line written is `{"version": ...}`. A line may also be a list of calls, which run at the same time; their
outcomes are a list as well. Arguments go to the SDK untouched, so that what reaches the wire is the SDK's own
doing; the names in `omitted` are arguments as well, whose value is the SDK's own sign for none.

A call:     {"base_url", "api_key", "headers", "attempts", "asynchronous", "method", "args", "omitted"}
An outcome: {"value": ...} or {"events": [...]}, and {"error": {...}} beside or instead of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google import genai
from google.genai import types

TIMEOUT_MS = 30_000

Call = dict[str, Any]
Outcome = dict[str, Any]


def main() -> None:
    """Serve calls until standard input ends; whatever the SDK prints goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    clients: dict[str, genai.Client] = {}
    with asyncio.Runner() as runner:
        answers.write(json.dumps({"version": genai.__version__}) + "\n")
        answers.flush()
        for line in sys.stdin:
            asked = json.loads(line)
            calls = asked if isinstance(asked, list) else [asked]
            outcomes = _outcomes(runner, [(_client(clients, call), call) for call in calls])
            answers.write(json.dumps(outcomes if isinstance(asked, list) else outcomes[0]) + "\n")
            answers.flush()


def _outcomes(runner: asyncio.Runner, calls: list[tuple[genai.Client, Call]]) -> list[Outcome]:
    if any(call["asynchronous"] for _, call in calls):
        return runner.run(_gather(calls))
    if len(calls) == 1:
        return [_perform(*calls[0])]
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(_perform, *zip(*calls, strict=True)))


async def _gather(calls: list[tuple[genai.Client, Call]]) -> list[Outcome]:
    return await asyncio.gather(*(_perform_async(client, call) for client, call in calls))


def _client(clients: dict[str, genai.Client], call: Call) -> genai.Client:
    options = {name: call[name] for name in ("base_url", "api_key", "headers", "attempts")}
    key = json.dumps(options, sort_keys=True)
    if key not in clients:
        clients[key] = genai.Client(
            api_key=call["api_key"],
            http_options=types.HttpOptions(
                base_url=call["base_url"],
                headers=call["headers"],
                timeout=TIMEOUT_MS,
                retry_options=types.HttpRetryOptions(attempts=call["attempts"]),
            ),
        )
    return clients[key]


def _perform(client: genai.Client, call: Call) -> Outcome:
    outcome: Outcome = {}
    try:
        method: Callable[..., Any] = getattr(client.interactions, call["method"])
        value = method(**_arguments(call))
        if not call["args"].get("stream"):
            return {"value": _dump(value)}
        events = outcome["events"] = []
        for event in value:
            events.append(_dump(event))  # noqa: PERF401 - what came before a failure is part of the outcome
    except Exception as error:
        outcome["error"] = _describe(error)
    return outcome


async def _perform_async(client: genai.Client, call: Call) -> Outcome:
    outcome: Outcome = {}
    try:
        method: Callable[..., Any] = getattr(client.aio.interactions, call["method"])
        value = await method(**_arguments(call))
        if not call["args"].get("stream"):
            return {"value": _dump(value)}
        events = outcome["events"] = []
        async for event in value:
            events.append(_dump(event))  # noqa: PERF401 - what came before a failure is part of the outcome
    except Exception as error:
        outcome["error"] = _describe(error)
    return outcome


def _arguments(call: Call) -> Call:
    arguments: Call = call["args"]
    if not call["omitted"]:
        return arguments
    # Only SDKs that have it are asked for it.
    from google.genai._interactions import omit

    return {**arguments, **dict.fromkeys(call["omitted"], omit)}


def _dump(value: Any) -> Any:
    if not hasattr(value, "model_dump"):
        return value
    dumped = value.model_dump(mode="json", exclude_none=True, warnings=False)
    text = getattr(value, "output_text", None)
    return dumped if text is None else {**dumped, "output_text": text}


def _describe(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return {
        "name": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "message": str(error),
        "retry_after": None if response is None else response.headers.get("retry-after"),
    }


if __name__ == "__main__":
    main()
