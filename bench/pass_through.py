"""The yardstick: a bare aiohttp + uvloop pass-through proxy that stores nothing and understands nothing."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

SESSION = web.AppKey("session", ClientSession)
UPSTREAM = web.AppKey("upstream", str)


async def create(request: web.Request) -> web.StreamResponse:
    """Forward the body and hand back the answer's bytes, as they come when a stream was asked for."""
    body = await request.read()
    headers = {"content-type": "application/json", "x-goog-api-key": "bench"}
    async with request.app[SESSION].post(request.app[UPSTREAM], data=body, headers=headers) as answer:
        if b'"stream":true' in body:
            return await stream(request, answer)
        content = await answer.read()
        return web.Response(status=answer.status, body=content, content_type="application/json")


async def stream(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    """Hand on every piece when it arrives."""
    response = web.StreamResponse(status=answer.status, headers={"content-type": answer.content_type})
    await response.prepare(request)
    async for piece in answer.content.iter_any():
        await response.write(piece)
    await response.write_eof()
    return response


async def session(app: web.Application) -> AsyncIterator[None]:
    """One client session, without the limits and the default total time-out that would slow it down."""
    connector = TCPConnector(limit=0, keepalive_timeout=60)
    async with ClientSession(
        connector=connector, timeout=ClientTimeout(total=None), cookie_jar=DummyCookieJar()
    ) as client:
        app[SESSION] = client
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    arguments = parser.parse_args()
    app = web.Application()
    app[UPSTREAM] = arguments.upstream + "/v1beta/interactions"
    app.cleanup_ctx.append(session)
    app.router.add_post("/v1beta/interactions", create)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=arguments.port, access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
