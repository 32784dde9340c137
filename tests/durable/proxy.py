"""A small reverse proxy: requests go to several gateways in turn, each with a token unless it has one."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

_OWN = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@asynccontextmanager
async def proxy(targets: Sequence[str], token: str | None = None) -> AsyncIterator[str]:
    """Run it; yields its URL."""
    turns = itertools.cycle(targets)

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _OWN)
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token}")
        url = URL(next(turns) + request.raw_path, encoded=True)
        body = io.BytesIO(await request.read()) if request.body_exists else None
        asked = {"data": body, "allow_redirects": False, "skip_auto_headers": ("Content-Type",)}
        async with session.request(request.method, url, headers=headers, **asked) as answer:
            kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _OWN)
            response = web.StreamResponse(status=answer.status, headers=kept)
            if "text/event-stream" not in answer.headers.get("Content-Type", ""):
                response.content_length = int(answer.headers.get("Content-Length", 0))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
