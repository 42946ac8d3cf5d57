"""The service inside a program: what the program sees, what it leaves behind, and who else may use the file.

Each test is a program of its own, started with the key of the environment alone.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service import (
    ClientUnusable,
    InteractionCreated,
    InteractionsClient,
    InteractionsError,
    SdkConfigurationError,
)
from service.sdk.options import resolve
from tests.support.sdk import MODEL, Backdrop, async_client, async_functions, client, functions

ROOT = Path(__file__).parents[2]
ASK = 'model="gemini/gemini-2.5-flash"'


class Programs:
    """Runs programs where the environment has the key and the address of the emulator."""

    def __init__(self, backdrop: Backdrop, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "GEMINI_API_KEY": "upstream-key-a",
            "GEMINI_API_BASE": backdrop.upstream.url,
        }

    @property
    def database_url(self) -> str:
        """Where they store."""
        return f"sqlite:///{self.folder / 'interactions.db'}"

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, *arguments: str) -> str:
        """The output of a program that must end well and complain of nothing."""
        return ended(self.start(code, *arguments))


def ended(program: subprocess.Popen[str], *tolerated: str) -> str:
    output, errors = program.communicate(timeout=90)
    assert program.returncode == 0, errors
    assert {*errors.splitlines()} <= {*tolerated}
    return output.strip()


@pytest.fixture
def programs(backdrop: Backdrop, tmp_path: Path) -> Programs:
    return Programs(backdrop, tmp_path)


def test_importing_it_is_cheap_and_starts_nothing(programs: Programs) -> None:
    told = programs.run("""
import sys, threading
import service
print(*[name for name in sys.modules if name.startswith(("service", "asyncio", "aiohttp", "pydantic"))])
assert "create_interaction" in dir(service)
from service import create_interaction, acreate_interaction, InteractionsClient
print(threading.active_count(), "service.app" in sys.modules, "sqlalchemy" in sys.modules)
""")
    assert told.splitlines() == ["service", "1 False False"]
    assert list(programs.folder.iterdir()) == []


def test_importing_it_takes_few_milliseconds(programs: Programs) -> None:
    def microseconds() -> int:
        program = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import service"],
            cwd=programs.folder,
            env=programs.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        line = next(line for line in program.stderr.splitlines() if line.endswith("| service"))
        return int(line.split("|")[1])

    # A busy machine makes it longer, and nothing makes it shorter.
    assert any(microseconds() < 150_000 for _ in range(20))


def test_it_works_where_a_loop_runs_and_across_loops(programs: Programs) -> None:
    told = programs.run(f"""
import asyncio
from service import acreate_interaction, create_interaction, get_interaction
async def first():
    one = await acreate_interaction({ASK}, input="Hello")
    two = create_interaction({ASK}, input="Again", previous_interaction_id=one.id)
    events = [event async for event in await acreate_interaction({ASK}, input="Hello", stream=True)]
    return events[0].interaction.id, two.id
ids = asyncio.run(first())
async def second():
    print(*[(await asyncio.to_thread(get_interaction, id)).status for id in ids])
asyncio.run(second())
""")
    assert told == "completed completed"


def test_nothing_listens_and_threads_do_not_multiply(programs: Programs) -> None:
    told = programs.run(f"""
import psutil, threading
from concurrent.futures import ThreadPoolExecutor
from service import create_interaction
create_interaction({ASK}, input="Hello")
threads = threading.active_count()
with ThreadPoolExecutor(8) as pool:
    made = [*pool.map(lambda n: create_interaction({ASK}, input=str(n)), range(40))]
assert len({{one.id for one in made}}) == 40
del pool
listening = [c for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]
print(threading.active_count() - threads < 8, listening)
""")
    assert told == "True []"


def test_a_stream_that_is_left_when_the_program_ends_is_stored(
    programs: Programs, backdrop: Backdrop
) -> None:
    identity = programs.run(f"""
from service import create_interaction
stream = create_interaction({ASK}, input="Slowly", stream=True,
    extra_headers={{"x-emulator-fault": "trickle;bytes=100;seconds=0.01"}})
print(next(stream).interaction.id)
""")
    sdk, close = client({"config": str(backdrop.config), "database_url": programs.database_url})
    assert sdk.get(identity).status == "completed"
    close()


def test_a_key_that_is_missing_is_told_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "INTERACTIONS_BASE_URL", "INTERACTIONS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for form in (client, async_client):
        with pytest.raises(SdkConfigurationError) as caught:
            form({})
        for remedy in ("GEMINI_API_KEY", "api_key=", "config=", "INTERACTIONS_BASE_URL"):
            assert remedy in str(caught.value)
    for form in (functions, async_functions):
        with pytest.raises(InteractionsError, match="GEMINI_API_KEY"):
            form({})[0].create()


def test_a_database_that_cannot_be_used_is_an_error_each_time(backdrop: Backdrop) -> None:
    sdk, close = client({**backdrop.embedded, "database_url": "sqlite:////nowhere/interactions.db"})
    for _ in range(2):
        with pytest.raises(SdkConfigurationError, match="/nowhere/"):
            sdk.create()
    close()


def test_another_key_is_another_service_on_the_same_file(
    backdrop: Backdrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTERACTIONS_BASE_URL", "INTERACTIONS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_BASE", backdrop.upstream.url)
    monkeypatch.setenv("INTERACTIONS_DATABASE_URL", f"sqlite:///{tmp_path / 'interactions.db'}")
    monkeypatch.setenv("GEMINI_API_KEY", "upstream-key-a")
    one, close_one = client({})
    first = one.create("Call me Ada.")
    monkeypatch.setenv("GEMINI_API_KEY", "upstream-key-b")
    two, close_two = client({})
    second = two.create("Who am I?", previous_interaction_id=first.id)
    assert "Call me Ada." in second.output_text
    three, close_three = client({"api_key": "upstream-key-c"})
    assert one.get(second.id) == three.get(second.id) == second
    for close in (close_one, close_two, close_three):
        close()


def test_it_stores_in_either_database(backdrop: Backdrop, database_url: str) -> None:
    connection = {"config": str(backdrop.config), "database_url": database_url}
    sdk, close = client(connection)
    made = sdk.create("Call me Ada.")
    events = sdk.stream("Who am I?", previous_interaction_id=made.id)
    close()
    again, close = async_client(connection)
    assert again.get(made.id) == made
    assert isinstance(events[0], InteractionCreated)
    assert again.events(events[0].interaction.id) == events
    close()


def test_a_stream_of_a_client_that_is_closed_says_so(backdrop: Backdrop, tmp_path: Path) -> None:
    connection: dict[str, Any] = {
        "config": str(backdrop.config),
        "database_url": f"sqlite:///{tmp_path / 'interactions.db'}",
    }
    with InteractionsClient(**connection) as closing:
        stream = closing.create_interaction(
            model=MODEL,
            input="Slowly",
            stream=True,
            extra_headers={"x-emulator-fault": "trickle;bytes=64;seconds=0.01"},
        )
        next(stream)
    with pytest.raises(InteractionsError, match="closed"):
        list(stream)
    sdk, close = client(connection)
    assert sdk.events(str(stream.interaction_id))[-1].event_type == "interaction.completed"
    close()


def test_secrets_are_not_shown() -> None:
    secret = "a-secret-of-somebody"
    for connection in (
        {"base_url": "http://localhost:4000", "api_key": secret},
        {"api_key": secret, "database_url": f"postgresql://user:{secret}@db/interactions"},
    ):
        assert secret not in repr(resolve(connection))


def test_clients_with_equal_arguments_share_one_service(backdrop: Backdrop) -> None:
    (one, close_one), (two, close_two) = client(backdrop.embedded), async_client(backdrop.embedded)
    made = one.create()
    close_one()
    assert two.get(made.id) == made
    close_two()
    close_two()
    with pytest.raises(InteractionsError, match="closed"):
        one.get(made.id)


_MANY = f"""
import sys
from service import create_interaction, get_interaction
print("ready", flush=True)
sys.stdin.readline()
last = None
for n in range(8):
    made = create_interaction({ASK}, input=f"{{sys.argv[1]}} {{n}}", previous_interaction_id=last) if last else (
        create_interaction({ASK}, input=f"{{sys.argv[1]}} {{n}}"))
    last = made.id
    assert get_interaction(last).status == "completed"
print(last)
"""


def test_programs_that_share_a_file_do_each_other_no_harm(programs: Programs, backdrop: Backdrop) -> None:
    names = ("one", "two")
    started = [programs.start(_MANY, name) for name in names]
    for program in started:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in started:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    # Those that find the file locked try again.
    locked = (
        "the store cannot be written: SQLite: database is locked",
        "usage that upstream still owes cannot be looked for: The store cannot be written now.",
        "lists, searches and reports are not kept up now: SQLite: database is locked",
    )
    last = [ended(program, *locked) for program in started]
    sdk, close = client({"config": str(backdrop.config), "database_url": programs.database_url})
    for identity, name in zip(last, names, strict=True):
        for number in reversed(range(8)):
            told = sdk.get(identity, include_input=True)
            assert (told.status, told.input) == ("completed", f"{name} {number}")
            identity = str(told.previous_interaction_id)
        assert identity == "None"
    close()


def test_a_program_may_fork(programs: Programs, backdrop: Backdrop) -> None:
    told = programs.run(
        f"""
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
import service
from service import InteractionsClient, create_interaction, get_interaction
client, remote = InteractionsClient(), InteractionsClient(base_url=sys.argv[1], api_key=sys.argv[2])
before = client.create_interaction({ASK}, input="Before")
remote.create_interaction({ASK}, input="Before")
stream = client.create_interaction({ASK}, input="Before", stream=True)
read, write = os.pipe()
child = os.fork()
if child == 0:
    for refused in (
        lambda: client.get_interaction(before.id),
        lambda: get_interaction(before.id),
        lambda: create_interaction({ASK}, input="The child", database_url="sqlite:///other.db"),
    ):
        try:
            refused()
        except service.SdkConfigurationError as error:
            assert "spawn" in str(error)
        else:
            raise AssertionError
    try:
        list(stream)
    except service.ClientUnusable as error:
        assert "forked" in str(error)
    made = remote.create_interaction({ASK}, input="The child").id
    os.write(write, made.encode())
    raise SystemExit
assert os.waitpid(child, 0)[1] == 0
print(list(stream)[-1].event_type, remote.get_interaction(os.read(read, 100).decode()).status)
print(create_interaction({ASK}, input="After").status)
""",
        *backdrop.remote.values(),
    )
    assert told.split() == ["interaction.completed", "completed", "completed"]


def test_the_environment_names_a_running_service(programs: Programs, backdrop: Backdrop) -> None:
    connection = backdrop.remote
    programs.environment = {
        "PYTHONPATH": str(ROOT),
        "INTERACTIONS_BASE_URL": connection["base_url"],
        "INTERACTIONS_API_KEY": connection["api_key"],
    }
    told = programs.run(f"""
import asyncio
from service import acreate_interaction, create_interaction, get_interaction
made = create_interaction({ASK}, input="Tell me a short joke about programming.")
assert made.outputs[-1].text
assert asyncio.run(acreate_interaction({ASK}, input="And another.")).outputs[-1].text
chunks = list(create_interaction({ASK}, input="Write a 3 paragraph story about a robot.", stream=True))
print(get_interaction(made.id).status, chunks[-1].event_type)
""")
    assert told == "completed interaction.completed"
    assert not list(programs.folder.iterdir())
    programs.environment["INTERACTIONS_API_KEY"] = "wrong"
    told = programs.run(f"""
import service
try:
    service.create_interaction({ASK}, input="Hello")
except service.AuthenticationFailed as error:
    print(error.status)
""")
    assert told == "401"


def test_a_call_that_a_close_meets_is_refused_within_the_tree(scripted: Any) -> None:
    arrived = threading.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(30)
        raise AssertionError

    client = scripted(script)
    refused: list[BaseException] = []

    def call() -> None:
        try:
            client.create_interaction(model="m", input="Hello")
        except BaseException as error:
            refused.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert arrived.wait(20)
    client.close()
    caller.join(20)
    assert len(refused) == 1
    assert isinstance(refused[0], InteractionsError)
    with pytest.raises(ClientUnusable):
        client.create_interaction(model="m", input="Hello")


def test_a_fork_before_the_first_use_or_after_the_last_is_as_any_other(programs: Programs) -> None:
    told = programs.run(f"""
import os
from service import InteractionsClient, create_interaction
with InteractionsClient() as client:
    client.create_interaction({ASK}, input="Before")
child = os.fork()
print(create_interaction({ASK}, input="After").status, flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
""")
    assert told.split() == ["completed"] * 2


def test_threads_that_outlive_the_main_one_can_go_on(programs: Programs) -> None:
    told = programs.run(f"""
import threading, time
from concurrent.futures import ThreadPoolExecutor
from service import create_interaction
def work():
    for n in range(3):
        print(create_interaction({ASK}, input=str(n)).status)
        time.sleep(0.1)
threading.Thread(target=work).start()
ThreadPoolExecutor(1).submit(create_interaction, {ASK}, input="Hello").result()
""")
    assert told.split() == ["completed"] * 3


def test_an_interrupted_program_ends_and_keeps_what_was_asked(programs: Programs) -> None:
    told = programs.run(f"""
import os, signal, threading
from service import create_interaction, get_interaction
# Where tests run in the background of a shell, interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
create_interaction({ASK}, input="Hello")
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    create_interaction({ASK}, input="Hello", extra_headers={{"x-emulator-fault": "latency;seconds=1"}})
except KeyboardInterrupt:
    print("interrupted")
print(create_interaction({ASK}, input="Hello").status)
""")
    assert told.split() == ["interrupted", "completed"]
