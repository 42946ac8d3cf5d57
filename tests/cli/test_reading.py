"""The commands that read, move and ask again, against a running service and on its database."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import pytest
from click.testing import CliRunner

from service.audit.fields import names
from service.cli.main import commands
from service.cli.printing import length, plain
from service.cli.reading import as_query
from service.settings.values import parse_seconds
from service.wire import ids
from tests.support.processes import ServiceProcess

KEY = "test-key"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Served:
    """A running service, its database, and the conversation in it."""

    url: str
    database_url: str
    ids: list[str]

    def run(self, *arguments: str, status: int = 0, data: bytes | None = None) -> Done:
        """A command against the service."""
        return command(*arguments, "--url", self.url, "--key", KEY, status=status, data=data)

    def told(self, *arguments: str) -> list[Any]:
        """What a command says in JSON."""
        return [orjson.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]

    def create(self, headers: Mapping[str, str] | None = None, **members: Any) -> dict[str, Any]:
        raw = self.send(orjson.dumps({"model": "gemini-2.5-flash", **members}), headers or {})
        told: dict[str, Any] = {} if members.get("stream") else orjson.loads(raw)
        return told

    def send(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Create what a body says."""
        sent = {"x-api-key": KEY, "x-interactions-labels": "team=search", **headers}
        with urlopen(Request(f"{self.url}/v1beta/interactions", body, sent)) as response:
            raw: bytes = response.read()
        return raw


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    stdout: bytes
    stderr: bytes


def command(*arguments: str, status: int = 0, data: bytes | None = None) -> Done:
    """Run a command in this process: to start one takes longer than most commands do."""
    hidden = {name: None for name in os.environ if name.startswith("INTERACTIONS_")}
    done = CliRunner().invoke(commands, arguments, input=data, env=hidden, prog_name="interactions")
    assert done.exit_code == status, (done.output, done.exception)
    return Done(done.stdout_bytes, done.stderr_bytes)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database_url = f"sqlite:///{tmp_path_factory.mktemp('served') / 'interactions.db'}"
    if request.param == "postgres":
        database_url = request.getfixturevalue("module_postgres_url")
    arguments = ["serve", "--emulator", "--port", "0", "--database-url", database_url]
    with ServiceProcess(arguments, {"INTERACTIONS_MASTER_KEY": KEY}) as service:
        made = Served(service.url, database_url, [])
        for number in range(3):
            previous: dict[str, Any] = {"previous_interaction_id": made.ids[-1]} if made.ids else {}
            made.ids.append(made.create(input=f"Tell me {number} of tea", **previous)["id"])
        made.create(input="Stream it", stream=True)
        yield made


def test_logs_lists_the_newest_last(served: Served) -> None:
    found = served.told("logs", "--chain", served.ids[0])
    assert [one["id"] for one in found][:3] == served.ids
    assert found[0]["labels"] == {"team": "search"}


def test_a_database_can_be_read_while_it_is_served(served: Served) -> None:
    at = ("--database-url", served.database_url)

    def told(*arguments: str) -> list[Any]:
        return [orjson.loads(line) for line in command(*arguments, *at, "--json").stdout.splitlines()]

    # Texts are found a little after they were said.
    while len(served.told("search", "1", "of", "tea", "--max-depth", "1")) < 2:
        pass
    for arguments in (
        ("logs", "--chain", served.ids[0]),
        ("search", "1", "of", "tea", "--max-depth", "1"),
    ):
        assert [one["id"] for one in told(*arguments)] == [one["id"] for one in served.told(*arguments)]
    for command_name in ("show", "chain"):
        (here,), (there,) = told(command_name, served.ids[1]), served.told(command_name, served.ids[1])
        # What it costs is derived a little later.
        assert here.keys() == there.keys()
        assert here.get("request") == there.get("request")
    (here,), (there,) = told("usage", "-g", "model"), served.told("usage", "-g", "model")
    assert here["total"]["requests"] == there["total"]["requests"]
    assert [one["id"] for one in told("logs", "--chain", served.ids[0])][:3] == served.ids
    export = ("export", "--chain", served.ids[0])
    lines, others = command(*export, *at).stdout.splitlines(), served.run(*export).stdout.splitlines()
    assert [orjson.loads(line).get("id") for line in lines] == [
        orjson.loads(line).get("id") for line in others
    ]
    assert served.create(input="Still served")["status"] == "completed"


def test_every_filter_is_an_option(served: Served) -> None:
    told = command("logs", "--help").stdout.decode()
    spelled = {"from": "since", "to": "until", "q": "search"}
    for name in names():
        assert f"--{spelled.get(name, name).replace('_', '-')}" in told
    filters = ["--status", "completed", "--max-depth", "1", "--min-depth", "1", "--label", "team=search"]
    found = served.told("logs", *filters, "--no-background", "--model", "gemini-2.5-flash", "--since", "1h")
    assert served.ids[1] in [one["id"] for one in found]
    assert {one["depth"] for one in found} == {1}
    assert served.told("logs", "--status", "failed") == []
    assert served.told("logs", "--depth", "1", "--http-status", "200", "--chain", served.ids[0]) == [
        one for one in found if one["id"] == served.ids[1]
    ]


def test_what_is_piped_is_plain(served: Served) -> None:
    head, *rows = served.run("logs", "--chain", served.ids[0], "-n", "500").stdout.decode().splitlines()
    assert head.split("\t")[:3] == ["created", "id", "status"]
    assert all(len(row.split("\t")) == len(head.split("\t")) for row in rows)
    assert "\x1b" not in "".join(rows)


@pytest.mark.parametrize("columns", ["140", "80"])
def test_a_terminal_gets_a_table_in_colours_with_whole_ids(served: Served, columns: str) -> None:
    arguments = ("logs", "--chain", served.ids[0], "--url", served.url, "--key", KEY)
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        stdout=slave,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": columns},
    ):
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65_536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert served.ids[0].encode() in shown
    assert b"\x1b[32mcompleted" in shown


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (1, "1s"),
        (90, "90s"),
        (5_400, "90m"),
        (7_200, "2h"),
        (86_400 * 30, "30d"),
        (0.5, "0.5s"),
        (1_234_567, "1234567s"),
    ],
)
def test_a_time_is_told_as_it_can_be_set(told: float, text: str) -> None:
    assert length(told) == text
    assert parse_seconds(text) == told


def test_what_callers_say_does_not_steer_a_terminal() -> None:
    assert plain("red \x1b[31m\x9b2J\r\n\tünï") == "red  [31m 2J   ünï"


def test_logs_follow_what_ends(served: Served) -> None:
    arguments = ["logs", "--follow", "--json", "-n", "1", "--url", served.url, "--key", KEY]
    with subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # A shell without job control has its children ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        made = served.create(input="While somebody looks")["id"]
        assert orjson.loads(following.stdout.readline())["id"] == made
        following.send_signal(signal.SIGINT)
        assert following.communicate() == (b"", b"")
    assert following.returncode == 130


def test_logs_follow_what_comes_to_match_after_younger_ones(served: Served) -> None:
    arguments = [
        "logs",
        "-f",
        "--status",
        "completed",
        "--json",
        "-n",
        "1",
        "--url",
        served.url,
        "--key",
        KEY,
    ]
    with (
        ThreadPoolExecutor(1) as threads,
        subprocess.Popen(
            [sys.executable, "-m", "service", *arguments], stdout=subprocess.PIPE, cwd=ROOT
        ) as following,
    ):
        assert following.stdout is not None
        following.stdout.readline()
        slow = threads.submit(
            served.create, {"x-emulator-fault": "latency;seconds=10"}, input="Takes its time"
        )
        while not served.told("logs", "--status", "in_progress"):
            pass
        quick = served.create(input="Begins later, ends sooner")["id"]
        told = [orjson.loads(following.stdout.readline())["id"] for _ in range(2)]
        assert told == [quick, slow.result()["id"]]
        following.terminate()


def test_logs_follow_what_is_found_late(served: Served) -> None:
    arguments = ["logs", "-f", "-q", "tea", "--json", "-n", "1", "--url", served.url, "--key", KEY]
    line = orjson.loads(served.run("export", "--chain", served.ids[0]).stdout.splitlines()[0])
    began = int((time.time() - 300) * 1000) << 80
    line["id"] = line["interaction"]["id"] = ids.to_text(began.to_bytes(16, "big"))
    with subprocess.Popen(
        [sys.executable, "-m", "service", *arguments], stdout=subprocess.PIPE, cwd=ROOT
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        served.run("import", "-", data=_export_of(line))
        assert orjson.loads(following.stdout.readline())["id"] == line["id"]
        following.terminate()


def _export_of(line: dict[str, Any], before: bytes = b"") -> bytes:
    data = before + orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    told = {"count": data.count(b"\n"), "sha256": sha256(data).hexdigest(), "last": line["id"]}
    return data + orjson.dumps({"manifest": told})


def test_show_tells_everything(served: Served) -> None:
    (detail,) = served.told("show", served.ids[1])
    assert detail["request"]["input"] == "Tell me 1 of tea"
    shown = served.run("show", served.ids[1]).stdout.decode()
    for part in (served.ids[0], "team=search", "Tell me 1 of tea", "completed", "asked", "answered"):
        assert part in shown


def test_numbers_of_any_size_are_told_as_they_were_sent(served: Served) -> None:
    large = "123456789012345678901234567890"
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": int(large)}}}
    tools = [{"type": "function", "name": "f", "parameters": schema}]
    body = json.dumps({"model": "gemini-2.5-flash", "input": "Hello", "tools": tools}).encode()
    created = orjson.loads(served.send(body, {}))["id"]
    for form in ((), ("--json",)):
        assert large in served.run("show", created, *form).stdout.decode()


def test_chain_is_a_tree(served: Served) -> None:
    lines = served.run("chain", served.ids[1]).stdout.decode().splitlines()
    assert lines[0].startswith(f" {served.ids[0]}\t")
    assert any(line.startswith(f"*  {served.ids[1]}\t") for line in lines)
    assert any(line.startswith(f"     {served.ids[2]}\t") for line in lines)
    (told,) = served.told("chain", served.ids[1])
    assert told["interaction"]["id"] == served.ids[1]


def test_search_shows_where_it_was_found(served: Served) -> None:
    deadline = time.monotonic() + 20
    # The words of what has just ended are told a moment later.
    while not (shown := served.run("search", "1", "of", "tea", "--max-depth", "1").stdout.decode()):
        assert time.monotonic() < deadline
    assert served.ids[1] in shown
    assert "input: Tell me 1 of tea" in shown


def test_search_takes_words_as_one_types_them(served: Served) -> None:
    chain = ("--chain", served.ids[0])

    def found(*words: str) -> set[str]:
        return {one["id"] for one in served.told("search", *words, *chain)}

    deadline = time.monotonic() + 20
    while not set(served.ids) <= found("tea"):
        assert time.monotonic() < deadline
    asked = "--max-depth", "0"
    assert served.ids[0] in found("0 of tea", *asked)
    assert not found("tea of 0", *asked)
    assert served.ids[0] in found("tea", "of", "0", *asked)
    assert served.ids[0] in found("nowhere OR tea", *asked)
    assert served.ids[0] in found("Tell me 0 o*", *asked)
    assert not found("Tell me 0 te*", *asked)
    assert served.ids[0] in found("tel* tea", *asked)
    assert not found("tea", "-tea")
    assert served.ids[0] in found("tea -nowhere", *asked)
    assert served.ids[0] in found("tea", "-me Tell", *asked)
    assert served.ids[0] not in found("tea", "-Tell me 0", *asked)
    assert len(found("tea", "-nowhere", "-n1")) == len(found("tea", "-n", "1")) == 1
    assert b"No such option" in served.run("search", "tea", "--witout", status=2).stderr
    assert b"-5 is not in the range" in served.run("search", "tea", "-n", "-5", status=2).stderr
    assert b"Usage: interactions search" in command("search", "-h").stdout


@pytest.mark.parametrize(
    ("given", "query"),
    [
        (["a phrase"], '"a phrase"'),
        (["a", "phrase"], "a phrase"),
        (["of the comm*"], '"of the comm"*'),
        (["comm* of"], "comm* of"),
        (["Berlin - Paris"], '"Berlin - Paris"'),
        (["- foo bar"], '"- foo bar"'),
        (["-foo bar"], '-"foo bar"'),
        (["tea -coffee"], "tea -coffee"),
        (["one OR two"], "one OR two"),
        (['"as it is" there'], '"as it is" there'),
        ([" "], " "),
        (["-without"], "-without"),
    ],
)
def test_what_the_shell_hands_over_becomes_a_query(given: list[str], query: str) -> None:
    assert as_query(given) == query


def test_usage_adds_up(served: Served) -> None:
    (told,) = served.told("usage", "-g", "model,label:team")
    assert told["total"]["requests"] >= 4
    lines = served.run("usage", "-g", "model,day", "-w", "stream=true").stdout.decode().splitlines()
    assert lines[0].split("\t")[:3] == ["model", "day", "requests"]
    assert lines[-1].startswith("total\t\t1\t")


def test_an_export_can_be_cut_resumed_and_taken_in(served: Served, tmp_path: Path) -> None:
    file, other = tmp_path / "all.jsonl", tmp_path / "other.db"
    filters = ("--chain", served.ids[0])
    served.run("export", *filters, "-o", str(file))
    whole = file.read_bytes()
    manifest = orjson.loads((tmp_path / "all.jsonl.manifest.json").read_bytes())
    assert manifest["count"] == len(whole.splitlines()) - 1
    assert served.run("export", *filters).stdout == whole
    file.write_bytes(whole[: len(whole) // 2])
    served.run("export", *filters, "-o", str(file), "--resume")
    assert file.read_bytes() == whole
    assert orjson.loads((tmp_path / "all.jsonl.manifest.json").read_bytes()) == manifest
    at = ("--database-url", f"sqlite:///{other}")
    missing = str(tmp_path / "missing.jsonl")
    assert b"cannot be read" in command("import", missing, *at, status=1).stderr
    assert not other.exists()
    told = command("import", str(file), *at).stderr.decode()
    assert f"{manifest['count']} imported, 0 there already" in told
    assert f"0 imported, {manifest['count']} there" in command("import", "-", *at, data=whole).stderr.decode()
    # Whoever is done with a file leaves nothing beside it.
    assert [path.name for path in tmp_path.glob("other*")] == ["other.db"]
    found = command("logs", *at, "--json", "--chain", served.ids[0]).stdout.splitlines()
    assert [orjson.loads(line)["id"] for line in found][:3] == served.ids
    file.write_bytes(whole.replace(b"tea", b"tee"))
    assert b"was damaged" in command("import", str(file), *at, status=1).stderr


def test_an_import_tells_what_is_not_whole(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    at = ("--database-url", f"sqlite:///{tmp_path / 'other.db'}")
    whole = served.run("export", "--chain", served.ids[0]).stdout
    lines = whole.splitlines(keepends=True)
    cut = command("import", "-", *at, data=b"".join(lines[:2]), status=1).stderr
    assert b"standard input ends without a manifest" in cut
    assert b"2 interactions that came before are taken in" in cut
    damaged = command("import", "-", *at, data=whole.replace(b"tea", b"tee"), status=1).stderr
    assert b"standard input is not what its manifest says" in damaged
    assert b"broken manifest" in command("import", "-", *at, data=whole[:-9], status=1).stderr
    for more, status, said in (
        (whole, 0, b"there already"),
        (b"".join(lines[:2]), 1, b"ends without a manifest"),
        (lines[0][:-9], 1, b"ends without a manifest"),
        (whole.replace(b"tea", b"tee"), 1, b"was damaged"),
    ):
        file.write_bytes(whole + more)
        assert said in command("import", str(file), *at, status=status).stderr
        command("import", "-", *at, data=whole + more, status=status)


def test_parts_of_an_export_are_taken_in_alone_and_together(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "part.jsonl"
    at = ("--database-url", f"sqlite:///{tmp_path / 'other.db'}")
    lines = served.run("export", "--chain", served.ids[0]).stdout.splitlines(keepends=True)
    count = len(lines) - 1
    asked = Request(
        f"{served.url}/api/export?chain={served.ids[0]}&cursor={served.ids[0]}",
        headers={"Authorization": f"Bearer {KEY}"},
    )
    with urlopen(asked) as reply:
        rest = reply.read()
    # One that was cut off ends within a line.
    file.write_bytes(lines[0] + lines[1][:-9])
    cut = command("import", str(file), *at).stderr
    assert b"has no manifest" in cut
    assert b"1 imported" in cut
    file.write_bytes(rest)
    assert f"{count - 1} imported" in command("import", str(file), *at).stderr.decode()
    file.write_bytes(lines[0] + rest)
    assert f"0 imported, {count} there" in command("import", str(file), *at).stderr.decode()
    assert f"{count} there" in command("import", "-", *at, data=lines[0] + rest).stderr.decode()
    for damaged in (lines[0] + rest.replace(b"tea", b"tee"), lines[0] + rest[rest.index(b"\n") + 1 :]):
        file.write_bytes(damaged)
        assert b"was damaged" in command("import", str(file), *at, status=1).stderr
    file.write_bytes(lines[0] + lines[1][:-9])
    served.run("export", "--chain", served.ids[0], "-o", str(file), "--resume")
    manifest = orjson.loads(file.read_bytes().splitlines()[-1])["manifest"]
    assert (manifest["count"], manifest.get("after")) == (count, None)


def test_an_import_names_the_line_of_the_file_that_is_refused(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    at = ("--database-url", f"sqlite:///{tmp_path / 'other.db'}")
    whole = served.run("export", "--chain", served.ids[0]).stdout
    wrong = orjson.loads(whole.splitlines()[0])
    wrong["interaction"]["status"] = "bogus"
    before = whole + b"\n" * 600
    file.write_bytes(whole + _export_of(wrong, b"\n" * 600))
    place = f"Line {len(before.splitlines()) + 1}: 'interaction.status' is 'bogus'"
    for told in (
        command("import", str(file), *at, status=1).stderr.decode(),
        command("import", "-", *at, data=file.read_bytes(), status=1).stderr.decode(),
    ):
        assert place in told
        assert "interactions that came before are taken in" in told


def test_an_export_that_was_begun_otherwise_is_not_gone_on_with(served: Served, tmp_path: Path) -> None:
    file, part, asked = (tmp_path / f"all.jsonl{end}" for end in ("", ".part", ".part.asked"))
    served.run("export", "--chain", served.ids[0], "-o", str(file))
    whole = file.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    asked.write_bytes(orjson.dumps([("chain", served.ids[0]), ("format", "jsonl")]))
    refused = served.run(
        "export", "--status", "failed", "-o", str(file), "--resume", status=1
    ).stderr.decode()
    assert f"begun as 'chain={served.ids[0]} format=jsonl'" in refused
    served.run("export", "--chain", served.ids[0], "-o", str(file), "--resume")
    assert file.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"all.jsonl", "all.jsonl.manifest.json"}


def test_an_export_that_fails_leaves_what_there_was(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    for resume in ((), ("--resume",)):
        command("export", "-o", str(file), *resume, "--url", "http://127.0.0.1:9", status=1)
        served.run("export", "-o", str(file), *resume, "--min-cost", "nothing", status=1)
    assert list(tmp_path.iterdir()) == []
    served.run("export", "--chain", served.ids[0], "-o", str(file))
    there = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(there) == 2
    for resume in ((), ("--resume",)):
        command("export", "-o", str(file), *resume, "--url", "http://127.0.0.1:9", status=1)
        served.run("export", "-o", str(file), *resume, "--min-cost", "nothing", status=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == there
    part = tmp_path / "all.jsonl.part"
    part.write_bytes(there[file][: len(there[file]) // 2])
    served.run("export", "--chain", served.ids[0], "-o", str(file), "--resume")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == there
    file.write_text("no lines of JSON\n")
    assert b"leave out --resume" in served.run("export", "-o", str(file), "--resume", status=1).stderr
    assert b"cannot be written" in served.run("export", "-o", str(tmp_path / "x" / "y"), status=1).stderr
    assert b"is no file" in served.run("export", "-o", "/dev/null", status=2).stderr


def test_an_export_that_cannot_be_written_is_told_in_one_line(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "all.jsonl"
    # In a process of its own: what is left open is told when a process ends.
    arguments = [
        sys.executable,
        "-m",
        "service",
        "export",
        "--url",
        served.url,
        "--key",
        KEY,
        "-o",
        str(file),
    ]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.decode() == f"error: {file} cannot be written (No such file or directory)\n"


def test_nothing_is_sent_whose_report_cannot_be_written(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "report.html"
    for form in ("table", "json", "html"):
        told = served.run("replay", "int_x", "--report", form, "-o", str(file), status=1)
        assert told.stderr.decode() == f"error: {file} cannot be written (there is no folder {file.parent})\n"


def test_tables_have_a_manifest_as_well(served: Served, tmp_path: Path) -> None:
    for form in ("csv", "parquet"):
        file = tmp_path / f"all.{form}"
        served.run("export", "--chain", served.ids[0], "--format", form, "-o", str(file))
        manifest = orjson.loads((tmp_path / f"all.{form}.manifest.json").read_bytes())
        assert manifest["count"] >= 3
        assert manifest["bytes"] == file.stat().st_size
    assert b"--resume" in served.run("export", "--format", "csv", "--resume", status=2).stderr


def test_a_set_is_replayed_with_a_report(served: Served, tmp_path: Path) -> None:
    page, document = tmp_path / "report.html", tmp_path / "report.json"
    told = served.run("replay", *served.ids, "--with", "temperature=0", "--concurrency", "2", "--rate", "50")
    assert (
        b"3 replays: 0 could not be sent, 0 failed, 3 ended with the same status, 3 with the same text"
        in told.stderr
    )
    rows = told.stdout.decode().splitlines()
    assert [row.split("\t")[0] for row in rows[1:]] == served.ids
    made = rows[1].split("\t")[1]
    (detail,) = served.told("show", made)
    assert detail["replay_of"] == served.ids[0]
    assert detail["request"]["generation_config"] == {"temperature": 0}
    filters = ("--chain", served.ids[0], "--max-depth", "0", "--until", detail["created"])
    served.run("replay", *filters, "--report", "html", "-o", str(page), "--with", "input=Something <else>")
    assert "Something &lt;else&gt;" in page.read_text()
    few = served.run("replay", "--chain", served.ids[0], "--limit", "1", "--report", "json")
    assert b"More than 1 are selected, and the oldest 1 are sent; --limit takes more." in few.stderr
    served.run("replay", served.ids[0], "--report", "json", "-o", str(document))
    assert orjson.loads(document.read_bytes())["replays"][0]["comparison"]["text"]["same"]
    paced = served.run("replay", *served.ids, "--rate", "1", "--concurrency", "3", "--report", "json")
    replays = [orjson.loads(line)["replay"] for line in paced.stdout.splitlines()]
    shown = [served.told("show", name)[0] for name in replays]
    begun = sorted(datetime.fromisoformat(one["created"]) for one in shown)
    # Each begins a second after the one before it; what it takes to arrive may differ.
    assert begun[2] - begun[0] > timedelta(seconds=0.5)
    again = served.run("replay", "--chain", served.ids[0], "--report", "json")
    assert {orjson.loads(line)["original"] for line in again.stdout.splitlines()} <= set(served.ids)
    of_replays = served.run("replay", "--replay-of", served.ids[0], "--limit", "1", "--report", "json")
    assert orjson.loads(of_replays.stdout)["original"] == made
    lost = served.run("replay", served.ids[0], "int_x", status=1)
    assert b"'int_x' in 'id' was not found" in lost.stderr
    assert b"Name interactions" in served.run("replay", status=2).stderr


def test_numbers_of_any_size_can_be_changed(served: Served) -> None:
    schema = '{"type":"object","properties":{"n":{"maximum":123456789012345678901234567890}}}'
    tools = f'tools=[{{"type":"function","name":"f","parameters":{schema}}}]'
    told = served.run("replay", served.ids[0], "--with", tools, "--report", "json").stdout
    assert schema in served.run("show", orjson.loads(told)["replay"], "--json").stdout.decode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["a"], "'a' is not NAME=VALUE."),
        (["a=1", "a.b=2"], "'a.b=2' sets a member of 'a', which another --with makes no object."),
        (["a.b=1", "a.b.c.d=2"], "'a.b.c.d=2' sets a member of 'b', which another --with makes no object."),
        (["a=NaN"], "'a=NaN' has a number that JSON has not; put it into quotation marks to send a text."),
        (["a=[-Infinity]"], "'a=[-Infinity]' has a number that JSON has not"),
        (["a=1e999"], "'a=1e999' has a number that JSON has not"),
        (["a=" + "1" * 5_000], "111…' has too many digits"),
        (["a=" + "[" * 200_000], "[[[…' is nested too deeply."),
        (["a=\udcff"], "is no UTF-8."),
        (['a="\\ud800"'], "is no UTF-8."),
    ],
)
def test_a_change_that_cannot_be_made_is_told(changes: list[str], message: str) -> None:
    given = [part for change in changes for part in ("--with", change)]
    told = command("replay", "int_x", "--url", "http://127.0.0.1:9", *given, status=2).stderr.decode()
    (line,) = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert "Invalid value for --with: " in line
    assert message in line


def test_retention_and_holds(served: Served, tmp_path: Path) -> None:
    hold = served.run("retention", "hold", served.ids[0], "--reason", "case 7").stdout.decode().strip()
    assert "case 7" in served.run("retention", "holds").stdout.decode()
    served.run("retention", "release", hold)
    on_label = served.run("retention", "hold", "--label", "team=x").stdout.decode().strip()
    served.run("retention", "release", on_label)
    assert all(one["released"] for one in served.told("retention", "holds"))
    assert b"Name an interaction" in served.run("retention", "hold", status=2).stderr
    (told,) = served.told("retention", "run", "--dry-run")
    assert told["rules"] == []
    config, copy = tmp_path / "config.yaml", tmp_path / "copy.db"
    served.run("export", "-o", str(tmp_path / "all.jsonl"))
    url = f"sqlite:///{copy}"
    command("migrate", "--database-url", url)
    command("import", str(tmp_path / "all.jsonl"), "--database-url", url)
    config.write_text(f"general_settings:\n  database_url: {url}\n  retention_policies:\n    - keep: 1s\n")
    # Until all of it is older than that.
    time.sleep(1.5)
    dry = command("retention", "run", "--dry-run", "--config", str(config))
    assert dry.stdout.decode().splitlines()[1].startswith("all\t")
    assert b"nothing was changed" in dry.stderr
    # What was just taken in is judged all the same.
    (done,) = command("retention", "run", "--json", "--config", str(config)).stdout.splitlines()
    report = orjson.loads(done)
    assert report["expired"] == report["rules"][0]["due"] > 0
    assert report["rules"][0]["waiting"] == report["rules"][0]["running"] == 0


@pytest.mark.parametrize("name", ["", ".", "..", "\udcff"])
def test_a_name_that_nothing_can_have_is_told_in_one_line(name: str) -> None:
    away = ("--url", "http://127.0.0.1:9")
    for arguments in (
        ("show", name),
        ("chain", name),
        ("replay", "int_x", name),
        ("retention", "hold", name),
        ("retention", "release", name),
        ("webhook-secret", "show", "--project", name),
    ):
        told = command(*arguments, *away, status=1).stderr.decode()
        assert repr(name) in told
        assert len(told.splitlines()) == 1


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\0b", "\udcff"])
def test_a_key_that_no_header_can_hold_is_told_in_one_line(key: str) -> None:
    for name in ("logs", "reconcile"):
        told = command(name, "--url", "http://127.0.0.1:9", "--key", key, status=2).stderr.decode()
        assert told == "error: --key: expected a key in one line, without control characters\n"


def test_mistakes_are_told_in_one_line(served: Served, tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path / 'missing.db'}"
    assert b"there is no file" in command("logs", "--database-url", missing, status=2).stderr
    both = ("--url", served.url, "--database-url", missing)
    assert b"leave out --database-url" in command("logs", *both, status=2).stderr
    assert b"cannot be reached" in command("logs", "--url", "http://127.0.0.1:9", status=1).stderr
    assert b"error: Send the service's key" in command("logs", "--url", served.url, status=1).stderr
    for name in ("logs", "usage", "export"):
        wrong = served.run(name, "--since", "someday", status=2).stderr.decode()
        assert "Error: Invalid value for '--since': Expected a time such as" in wrong
    assert not (tmp_path / "missing.db").exists()
