"""Files: what is delivered by URI, and what requests refer to (contract 5.2, 6)."""

from __future__ import annotations

import base64

import pytest

from tests.emulator.client import Json, Start, Upstream

DAY = 86_400.0
BYTES = b"\x89PNG of a test"
FILM = {"type": "video", "delivery": "uri"}


async def put(upstream: Upstream, **members: str) -> Json:
    """A file as the admin API makes it."""
    data = base64.b64encode(BYTES).decode()
    file: Json = await upstream.admin("POST", "files", {"data": data, "mime_type": "image/png", **members})
    return file


def picture(uri: str) -> Json:
    return {"type": "user_input", "content": [{"type": "image", "uri": uri, "mime_type": "image/png"}]}


async def test_a_film_by_uri_can_be_downloaded(upstream: Upstream) -> None:
    inline = await upstream.create("Film", response_format={"type": "video"})
    answer = await upstream.create("Film", response_format=FILM)
    (content,) = answer["steps"][-1]["content"]
    assert sorted(content) == ["mime_type", "type", "uri"]
    assert content["uri"].endswith(":download?alt=media")
    response = await upstream.session.get(content["uri"])
    assert response.status == 200
    assert response.content_type == content["mime_type"] == "video/mp4"
    assert await response.read() == base64.b64decode(inline["steps"][-1]["content"][0]["data"])


async def test_a_file_is_described(upstream: Upstream) -> None:
    file = await put(upstream)
    response = await upstream.session.get(file["uri"])
    assert await response.json() == file
    assert file["name"] in file["uri"]
    assert file["downloadUri"] == f"{file['uri']}:download?alt=media"
    assert (file["mimeType"], file["sizeBytes"]) == ("image/png", str(len(BYTES)))
    assert (file["state"], file["source"]) == ("ACTIVE", "GENERATED")
    assert await (await upstream.session.get(file["downloadUri"])).read() == BYTES


async def test_a_request_may_refer_to_a_file(upstream: Upstream) -> None:
    file = await put(upstream)
    for uri in (file["uri"], file["downloadUri"], file["uri"].replace("/v1beta/", "/v1/")):
        assert (await upstream.create([picture(uri)]))["status"] == "completed"
    for elsewhere in ("https://example.com/v1beta/files/none", "gs://bucket/file", "https://youtu.be/x"):
        assert (await upstream.create([picture(elsewhere)]))["status"] == "completed"


@pytest.mark.parametrize("how", ["old", "foreign", "unknown"])
async def test_a_file_that_is_not_there_is_refused_everywhere(start: Start, how: str) -> None:
    upstream = await start()
    file = await put(upstream, key="key-b" if how == "foreign" else "key-a")
    uri = file["uri"]
    if how == "unknown":
        uri = f"{upstream.url}/v1beta/files/unknown"
    elif how == "old":
        upstream.clock.advance(2 * DAY)
    name = uri.rpartition("/")[2]
    message = f"You do not have permission to access the File {name} or it may not exist."
    for asked in (uri, f"{uri}:download?alt=media"):
        response = await upstream.session.get(asked)
        assert response.status == 403
        assert (await response.json())["error"] == {"code": "permission_denied", "message": message}
    for step in (
        picture(uri),
        {"type": "model_output", "content": [{"type": "image", "uri": uri}]},
    ):
        error = await upstream.refused(403, input=[{"type": "user_input", "content": "Look"}, step])
        assert error["message"] == message


async def test_a_file_lives_for_two_days(upstream: Upstream) -> None:
    file = await put(upstream)
    upstream.clock.advance(2 * DAY - 60)
    assert (await upstream.session.get(file["downloadUri"])).status == 200
    upstream.clock.advance(120)
    assert (await upstream.session.get(file["downloadUri"])).status == 403


async def test_an_uploaded_file_is_of_use_and_not_given_out(upstream: Upstream) -> None:
    file = await put(upstream, source="UPLOADED")
    assert "downloadUri" not in file
    assert (await upstream.create([picture(file["uri"])]))["status"] == "completed"
    response = await upstream.session.get(f"{file['uri']}:download?alt=media")
    assert response.status == 400
    assert "uploaded files can't be downloaded" in (await response.json())["error"]["message"]


async def test_a_download_must_ask_for_the_media(upstream: Upstream) -> None:
    file = await put(upstream)
    assert (await upstream.session.get(f"{file['uri']}:download")).status == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": "AAAA"},
        {"data": "A", "mime_type": "image/png"},
        {"data": "AAAA", "mime_type": "image/png", "source": "elsewhere"},
    ],
)
async def test_a_file_that_cannot_be_made_is_refused(upstream: Upstream, body: Json) -> None:
    assert (await upstream.session.post("/_emulator/files", json=body)).status == 400
