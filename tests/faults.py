"""A proxy before an S3 server that fails as networks and servers do.

    python -m tests.faults PORT SERVER SEED RATE

Of all requests a share meets a fault, by a seeded draw. Some never reach the server; of others the server's
answer is lost, so that what was asked for is done and not known to be.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

HOP = ("connection", "keep-alive", "transfer-encoding", "content-encoding")
STALL_S = 1.0

BEFORE = ("drop", "500", "503 SlowDown", "stall")
AFTER = ("lost answer", "truncated")
KINDS = (*BEFORE, *AFTER, "409")
CODES = {"500": "InternalError", "503 SlowDown": "SlowDown", "409": "OperationAborted"}


class Proxy:
    """The handler of all requests. `counts` says how many met which fault."""

    def __init__(self, server: str, seed: int, rate: float) -> None:
        self._server, self._random, self._rate = server, random.Random(seed), rate
        self.counts: dict[str, int] = dict.fromkeys(("none", *KINDS), 0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/_faults":
            return web.json_response(self.counts)
        fault = self._random.choice(KINDS) if self._random.random() < self._rate else "none"
        if fault == "409" and request.method != "PUT":
            fault = "drop"
        self.counts[fault] += 1
        body = await request.read()
        if fault == "stall":
            await asyncio.sleep(STALL_S)
        if fault in ("drop", "stall"):
            return self._dropped(request)
        if fault in CODES:
            text = f"<?xml version='1.0'?><Error><Code>{CODES[fault]}</Code><Message>fault</Message></Error>"
            return web.Response(status=int(fault[:3]), text=text, content_type="application/xml")
        return await self._passed(request, body, fault)

    async def _passed(self, request: web.Request, body: bytes, fault: str) -> web.StreamResponse:
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in HOP)
        url = URL(self._server + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            data = await answer.read()
            if fault == "lost answer":
                return self._dropped(request)
            kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in HOP)
            out = web.StreamResponse(status=answer.status, headers=kept)
        await out.prepare(request)
        if request.method == "HEAD":
            return out
        await out.write(data[: len(data) // 2] if fault == "truncated" else data)
        if fault == "truncated":
            return self._dropped(request, out)
        await out.write_eof()
        return out

    def _dropped(self, request: web.Request, out: web.StreamResponse | None = None) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort() if out is None else request.transport.close()
        return out or web.Response()

    async def session(self, app: web.Application) -> object:
        connector = TCPConnector(limit=0)
        async with ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()
        ) as it:
            self._session = it
            yield


def main(port: int, server: str, seed: int, rate: float) -> None:
    """Serve on a loopback port until terminated."""
    proxy = Proxy(server, seed, rate)
    app = web.Application(client_max_size=1 << 30)
    session: Callable[..., object] = proxy.session
    app.cleanup_ctx.append(session)  # type: ignore[arg-type]
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
