"""The examples that users paste work as they stand: commands, configurations and programs.

Commands that begin with ``curl`` are executed against a service started as ``make serve`` starts it, on another port;
``{interaction_id}`` stands for the interaction that an example before it created. ``make`` and ``interactions``
commands are checked against what exists. ``yaml`` blocks are configurations, ``python`` blocks are programs.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson
import pytest

from service.cli.main import commands as command_group
from service.sdk.loop_thread import LoopThread
from service.settings import Settings, check_upstream, load
from tests.support.examples import blocks, commands, words
from tests.support.processes import ServiceProcess
from tests.support.upstreams import Emulated

ROOT = Path(__file__).parents[2]
FIRST_EXAMPLES = """
```yaml
model_list:
  - model_name: gemini-flash
    litellm_params:
      model: gemini/gemini-2.5-flash
      api_key: os.environ/GEMINI_API_KEY
```

```sh
curl -X POST "http://localhost:4000/v1beta/interactions" -H "Authorization: Bearer sk-1234" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gemini/gemini-2.5-flash", "input": "Tell me a short joke about programming."}'
curl -N -X POST "http://localhost:4000/v1beta/interactions" -H "Authorization: Bearer sk-1234" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gemini/gemini-2.5-flash", "input": "Write a 3 paragraph story about a robot.", "stream": true}'
curl "http://localhost:4000/v1beta/interactions/{interaction_id}" -H "Authorization: Bearer sk-1234"
```

```python
from google import genai

client = genai.Client(api_key="sk-1234", http_options={"base_url": "http://localhost:4000"})
interaction = client.interactions.create(model="gemini-2.5-flash", input="Tell me a short joke.")
print(interaction.steps[-1].content[0].text)
```
"""
#: LiteLLM's SDK examples, with nothing changed but the import.
SDK_EXAMPLES = """
```python
from service import create_interaction
import os

os.environ["GEMINI_API_KEY"] = "your-api-key"

response = create_interaction(
    model="gemini/gemini-2.5-flash",
    input="Tell me a short joke about programming."
)

print(response.outputs[-1].text)
```

```python
from service import acreate_interaction
import os
import asyncio

os.environ["GEMINI_API_KEY"] = "your-api-key"

async def main():
    response = await acreate_interaction(
        model="gemini/gemini-2.5-flash",
        input="Tell me a short joke about programming."
    )
    print(response.outputs[-1].text)

asyncio.run(main())
```

```python
from service import create_interaction
import os

os.environ["GEMINI_API_KEY"] = "your-api-key"

response = create_interaction(
    model="gemini/gemini-2.5-flash",
    input="Write a 3 paragraph story about a robot.",
    stream=True
)

for chunk in response:
    print(chunk)
```
"""
#: What each form gives, for the type checker.
TYPES = """
from typing import assert_type
from service import (
    AsyncInteraction, AsyncInteractionsClient, AsyncInteractionStream, Interaction, InteractionsClient,
    InteractionStream, acreate_interaction, create_interaction, get_interaction, list_interactions,
)

async def forms(client: InteractionsClient, other: AsyncInteractionsClient, wish: bool) -> None:
    assert_type(create_interaction(model="m", input="x"), Interaction)
    assert_type(create_interaction(model="m", input="x", stream=True), InteractionStream)
    assert_type(client.create_interaction(model="m", input="x", stream=wish), Interaction | InteractionStream)
    assert_type(await acreate_interaction(model="m", input="x", stream=False), AsyncInteraction)
    assert_type(await other.create_interaction(model="m", input="x", stream=True), AsyncInteractionStream)
    made = get_interaction("int_1", include_input=True)
    assert_type(made.wait(timeout=1), Interaction)
    assert_type(made.outputs[-1].text, str | None)
    step = {"type": "function_result", "call_id": "c", "name": "n", "result": "r"}
    create_interaction(agent="a", input=[*made.steps, step], tools=[{"type": "google_search"}], timeout=None)
    print([found.id for found in list_interactions(status=["failed"], min_cost=0.5, labels={"team": "a"})])
"""
_DOCUMENTS = {"first examples": FIRST_EXAMPLES} | {
    path.stem: path.read_text("utf-8") for path in (ROOT / "README.md",) if path.exists()
}
#: What is pasted must not fail, although curl itself takes an HTTP error for a success.
_STRICT_CURL = 'curl() { command curl --silent --show-error --fail-with-body --max-time 60 "$@"; }\n'
_VARIABLE = re.compile(r"os\.environ/(\w+)")
_EVENT = re.compile(r"^data: (\{.*\})$", re.MULTILINE)
#: Ways to call this program.
_PROGRAMS = (["interactions"], ["python", "-m", "service"], ["python3", "-m", "service"])

Json = dict[str, Any]


@pytest.fixture(params=_DOCUMENTS)
def document(request: pytest.FixtureRequest) -> str:
    """A text with examples for users."""
    return _DOCUMENTS[request.param]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service as ``make serve`` starts it where there is no key."""
    # The suite itself runs under make, which tells its children so.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(
        ["make", "--no-print-directory", "-n", "serve"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = shlex.split(made.stdout.splitlines()[-1])
    start = arguments.index("serve")
    assert arguments[start - 2 : start] == ["-m", "service"]
    database = tmp_path_factory.mktemp("plain") / "interactions.db"
    own = ["--port", "0", "--database-url", f"sqlite:///{database}"]
    with ServiceProcess([*arguments[start:], *own]) as service:
        yield service.url


@pytest.fixture(scope="module")
def gemini() -> Iterator[str]:
    """The address of an emulator, for programs that ask Gemini themselves."""
    thread = LoopThread()
    emulated = Emulated()
    thread.call(emulated.server.start_server())
    yield emulated.url
    thread.call(emulated.close())
    thread.stop()


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[str]:
    """The address of a service with the first example's configuration."""
    config = _written(tmp_path, next(block.text for block in blocks(FIRST_EXAMPLES)))
    arguments = ["serve", "--emulator", "--config", str(config), "--port", "0"]
    database = f"sqlite:///{tmp_path / 'interactions.db'}"
    with ServiceProcess([*arguments, "--database-url", database], {"GEMINI_API_KEY": "k"}) as service:
        yield service.url


def test_curl_commands_work_as_pasted(document: str, plain: str, tmp_path: Path) -> None:
    _run_all(document, plain, tmp_path)


def test_the_first_commands_work_with_the_first_configuration(configured: str, tmp_path: Path) -> None:
    _run_all(FIRST_EXAMPLES, configured, tmp_path)


def test_python_programs_work_as_pasted(document: str, plain: str, gemini: str, tmp_path: Path) -> None:
    created = ""
    for block in blocks(document):
        if block.language != "python":
            continue
        if "{interaction_id}" in block.text:
            created = created or _created(plain, tmp_path)
        code = _placed(block.text, plain, created)
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GEMINI_API_BASE": gemini},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, f"the program on line {block.line}:\n{code}\n{result.stderr}"
        assert bool(result.stdout.strip()) >= ("print(" in code), code


def test_the_examples_of_the_sdk_are_there() -> None:
    programs = [block.text for block in blocks(_DOCUMENTS["README"]) if block.language == "python"]
    for example in blocks(SDK_EXAMPLES):
        assert _meaning(example.text) in map(_meaning, programs)


def test_a_type_checker_finds_nothing_in_programs_that_use_the_sdk(tmp_path: Path) -> None:
    programs = []
    for block in blocks(_DOCUMENTS["README"]):
        if block.language == "python" and "from service import" in block.text:
            programs.append(tmp_path / f"line_{block.line}.py")
            programs[-1].write_text(
                block.text.replace("async def main():", "async def main() -> None:"), "utf-8"
            )
    assert len(programs) >= 4
    programs.append(tmp_path / "forms_of_the_sdk.py")
    programs[-1].write_text(TYPES, "utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--strict", *programs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_configurations_load(document: str, tmp_path: Path) -> None:
    found = [block.text for block in blocks(document) if block.language == "yaml"]
    assert found
    for text in found:
        environ = {name: _value_of(name) for name in _VARIABLE.findall(text)} | {"GEMINI_API_KEY": "k"}
        check_upstream(load(str(_written(tmp_path, text)), environ).settings)


def test_other_commands_exist(document: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands(document):
        called = words(command)
        if called[:1] == ["make"]:
            assert {word for word in called[1:] if "=" not in word} <= {*targets}, command
        for program in _PROGRAMS:
            if called[: len(program)] == program:
                _check_arguments(called[len(program) :], command)


def _meaning(program: str) -> str:
    """The program without its layout."""
    return ast.dump(ast.parse(program))


def _run_all(document: str, url: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    known = ""
    pasted = [command for command in commands(document) if words(command)[:1] == ["curl"]]
    assert pasted
    for command in pasted:
        assert known or "{interaction_id}" not in command, f"no interaction was created before: {command}"
        output = _run(_placed(command, url, known), folder)
        told = _told(output)
        if told is not None:
            _check_content(told, streamed="data: {" in output)
            known = told["id"]


def _run(command: str, folder: Path) -> str:
    """The output of a command that must succeed."""
    result = subprocess.run(
        ["sh", "-c", _STRICT_CURL + command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    assert '"error":{' not in result.stdout, f"{command}\n{result.stdout}"
    return result.stdout


def _told(output: str) -> Json | None:
    """The interaction that an output shows, whole or as the last event of a stream."""
    found: list[Json] = []
    if output.startswith("{"):
        found = [orjson.loads(output)]
    elif "data: {" in output:
        assert output.rstrip().endswith("data: [DONE]"), output
        found = [orjson.loads(event).get("interaction", {}) for event in _EVENT.findall(output)]
    # What audit tells of an interaction has its request as well.
    told = [body for body in found if str(body.get("id", "")).startswith("int_") and "request" not in body]
    return told[-1] if told else None


def _check_content(told: Json, *, streamed: bool) -> None:
    if told["status"] == "completed":
        assert told["outputs"][-1]["text"]
        assert told["usage"]["total_input_tokens"] > 0
    else:
        assert not streamed, told


def _created(url: str, folder: Path) -> str:
    """The id of a new interaction."""
    body = '{"model": "gemini-2.5-flash", "input": "Hello"}'
    told = _told(
        _run(f"curl '{url}/v1beta/interactions' -H 'Content-Type: application/json' -d '{body}'", folder)
    )
    assert told is not None
    identity: str = told["id"]
    return identity


def _placed(text: str, url: str, interaction_id: str) -> str:
    """An example, moved to where the service is."""
    here = url.removeprefix("http://")
    for host in ("localhost", "127.0.0.1"):
        text = text.replace(f"{host}:{Settings().port}", here)
    return text.replace("{interaction_id}", interaction_id)


def _written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, "utf-8")
    return path


def _value_of(variable: str) -> str:
    return "postgresql://user:secret@db/interactions" if "DATABASE" in variable else "a-private-value"


def _check_arguments(arguments: list[str], command: str) -> None:
    """Fail unless the command line's own parser takes the arguments."""
    name, *rest = arguments
    chosen = command_group.commands[name]
    # A command keeps the names of its help from the first context that it is used in.
    group = click.Context(command_group, **command_group.context_settings)
    try:
        chosen.make_context(name, rest, parent=group)
    except click.exceptions.Exit:
        pass
    except click.UsageError as error:
        pytest.fail(f"{command}: {error.format_message()}")
