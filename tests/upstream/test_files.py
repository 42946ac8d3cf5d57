"""Files of upstream: which URIs name one, and what is fetched for them (contract 5.2)."""

from __future__ import annotations

import pytest

from service.upstream.deployments import Deployment, build
from service.upstream.files import FileRefused, Files, FileUnavailable, file_of, shares_files
from service.upstream.transport import Transport
from tests.support.raw_server import Behaviour, Connection, RawServer, answer, raw_server
from tests.support.upstreams import KEY, deployment

BODY = b"\x89PNG of a test"
GOOGLE = "https://generativelanguage.googleapis.com"
#: Answers by the target of the request.
Answers = dict[str, bytes]


def on(url: str = GOOGLE, **members: str) -> Deployment:
    return build(deployment(url, **members), "test")


@pytest.mark.parametrize(
    "uri",
    [
        f"{GOOGLE}/v1beta/files/abc-123",
        f"{GOOGLE}/v1/files/abc-123:download?alt=media",
        f"{GOOGLE}:443/v1alpha/files/abc-123",
        f"{GOOGLE.upper().replace('HTTPS', 'https')}/download/v1beta/files/abc-123:download?alt=media#x",
    ],
)
def test_every_spelling_of_a_file_is_the_same_file(uri: str) -> None:
    file = file_of(uri)
    assert file is not None
    assert file.is_on(on())
    assert file.canonical == f"{GOOGLE}:443/files/abc-123"


@pytest.mark.parametrize(
    "uri",
    [
        f"{GOOGLE}/v1beta/files/",
        f"{GOOGLE}/v1beta/files/a/b",
        f"{GOOGLE}/v1beta/files/a:delete",
        f"{GOOGLE}/v1beta/files/a%2f",
        f"{GOOGLE}/v1beta/files/{'a' * 65}",
        f"{GOOGLE}/v1beta/interactions/a",
        f"{GOOGLE}/latest/files/a",
        f"https://user@{GOOGLE[8:]}/v1beta/files/a",
        "ftp://host/v1beta/files/a",
        "gs://host/v1beta/files/a",
        "https:///v1beta/files/a",
        "https://host:port/v1beta/files/a",
        "https://[host/v1beta/files/a",
        "/v1beta/files/a",
        "",
    ],
)
def test_nothing_else_is_a_file(uri: str) -> None:
    assert file_of(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://generativelanguage.googleapis.com/v1beta/files/a",
        f"{GOOGLE}:8443/v1beta/files/a",
        f"{GOOGLE}.example.com/v1beta/files/a",
        f"{GOOGLE}/prefix/v1beta/files/a",
        "https://example.com/v1beta/files/a",
    ],
)
def test_a_file_elsewhere_is_not_the_deployments(uri: str) -> None:
    file = file_of(uri)
    assert file is not None
    assert not file.is_on(on())


def test_a_prefix_of_the_deployment_belongs_to_its_files() -> None:
    file = file_of("https://proxy.example/gemini/v1beta/files/a")
    assert file is not None
    assert file.is_on(on("https://proxy.example/gemini"))
    assert not file.is_on(on("https://proxy.example"))
    assert file.path == "/gemini/v1beta/files/a"


def test_files_are_shared_by_key_and_place() -> None:
    assert shares_files(on(), on(name="other"))
    assert not shares_files(on(), on(key="other"))
    assert not shares_files(on(), on("https://example.com"))


def by_target(answers: Answers, seen: list[str]) -> Behaviour:
    async def behave(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            method, target, _ = request.line.split(" ")
            assert method == "GET"
            assert request.headers["x-goog-api-key"] == KEY
            seen.append(target)
            await connection.send(answers.get(target, answer(b"{}", "404 Not Found")))

    return behave


async def download(transport: Transport, server: RawServer, most: int = 1000) -> tuple[bytes, str]:
    file = file_of(f"{server.url}/v1beta/files/abc")
    assert file is not None
    return await Files(transport, most).download(on(server.url), file)


DOWNLOAD = "/v1beta/files/abc:download?alt=media"


async def test_bytes_and_type_are_given(transport: Transport) -> None:
    seen: list[str] = []
    answers = {DOWNLOAD: answer(BODY, "200 OK", "Content-Type: image/png; x=y")}
    async with raw_server(by_target(answers, seen)) as server:
        assert await download(transport, server) == (BODY, "image/png")
        assert await download(transport, server, len(BODY)) == (BODY, "image/png")
        assert server.connections == 1
    assert seen == [DOWNLOAD] * 2


@pytest.mark.parametrize("declared", [True, False])
async def test_no_more_than_allowed_is_read(transport: Transport, declared: bool) -> None:
    large = b"x" * 500_000
    whole = answer(large) if declared else b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large
    async with raw_server(by_target({DOWNLOAD: whole}, [])) as server:
        with pytest.raises(FileRefused, match="more than 1000 bytes"):
            await download(transport, server)


@pytest.mark.parametrize(
    "status", ["401 Unauthorized", "408 Timeout", "429 Slow down", "500 Oops", "503 Busy"]
)
async def test_passing_trouble_is_told_apart_from_a_refusal(transport: Transport, status: str) -> None:
    async with raw_server(by_target({DOWNLOAD: answer(b"", status)}, [])) as server:
        with pytest.raises(FileUnavailable, match=status[:3]):
            await download(transport, server)


async def test_a_key_that_is_refused_says_nothing_of_the_file(transport: Transport) -> None:
    refusal = b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]'
    seen: list[str] = []
    async with raw_server(by_target({DOWNLOAD: answer(refusal, "400 Bad Request")}, seen)) as server:
        with pytest.raises(FileUnavailable, match="key"):
            await download(transport, server)
    assert seen == [DOWNLOAD]


@pytest.mark.parametrize(
    "cut", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"nonsense", answer(b"")]
)
async def test_a_download_that_breaks_off_is_passing_trouble(transport: Transport, cut: bytes) -> None:
    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(cut)

    async with raw_server(behave) as server:
        with pytest.raises(FileUnavailable):
            await download(transport, server)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (b'{"state":"PROCESSING"}', FileUnavailable),
        (b'{"state":"ACTIVE"}', FileRefused),
        (b"[]", FileRefused),
        (b"x" * 100_000, FileRefused),
        (b"<html>", FileRefused),
    ],
)
async def test_a_refusal_is_final_unless_the_file_is_being_made(
    transport: Transport, state: bytes, error: type[Exception]
) -> None:
    seen: list[str] = []
    answers = {DOWNLOAD: answer(b"{}", "400 Bad Request"), "/v1beta/files/abc": answer(state)}
    async with raw_server(by_target(answers, seen)) as server:
        with pytest.raises(error):
            await download(transport, server)
    assert seen == [DOWNLOAD, "/v1beta/files/abc"]


async def test_a_refusal_that_cannot_be_explained_now_is_not_final(transport: Transport) -> None:
    answers = {
        DOWNLOAD: answer(b"{}", "404 Not Found"),
        "/v1beta/files/abc": answer(b"", "503 Busy"),
    }
    async with raw_server(by_target(answers, [])) as server:
        with pytest.raises(FileUnavailable, match="503"):
            await download(transport, server)


async def test_a_file_that_is_gone_is_refused(transport: Transport) -> None:
    async with raw_server(by_target({}, [])) as server:
        with pytest.raises(FileRefused, match="404"):
            await download(transport, server)


async def test_the_same_file_may_be_sent_from_another_path(transport: Transport) -> None:
    moved = "/download/v1beta/files/abc:download?alt=media"
    seen: list[str] = []
    answers = {DOWNLOAD: answer(b"", "302 Found", f"Location: {moved}"), moved: answer(BODY)}
    async with raw_server(by_target(answers, seen)) as server:
        assert await download(transport, server) == (BODY, "")
    assert seen == [DOWNLOAD, moved]


async def test_a_redirect_to_anywhere_else_is_not_followed(transport: Transport) -> None:
    async with raw_server(by_target({}, [])) as elsewhere:
        for location in (
            f"{elsewhere.url}{DOWNLOAD}",
            f"//127.0.0.1:{elsewhere.port}{DOWNLOAD}",
            "/v1beta/files/other:download?alt=media",
            "/v1beta/interactions/abc",
            "http://[",
            "",
        ):
            seen: list[str] = []
            answers = {DOWNLOAD: answer(b"", "302 Found", f"Location: {location}")}
            async with raw_server(by_target(answers, seen)) as server:
                with pytest.raises(FileRefused):
                    await download(transport, server)
            assert seen in ([DOWNLOAD], [DOWNLOAD] * 2)
        assert elsewhere.connections == 0


async def test_a_file_elsewhere_is_not_asked_for(transport: Transport) -> None:
    async with raw_server(by_target({}, [])) as server:
        file = file_of(f"http://localhost:{server.port}/v1beta/files/abc")
        assert file is not None
        with pytest.raises(FileRefused):
            await Files(transport, 1000).download(on(server.url), file)
        assert server.connections == 0
