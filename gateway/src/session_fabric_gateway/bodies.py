"""What a request brings with it, taken in as it comes: what is too much is refused before it is all there."""

from __future__ import annotations

from aiohttp import web

from session_fabric_gateway.weighing import MOST_VALUES, Weighing


async def read(request: web.Request, weighing: Weighing | None = None) -> bytes:
    """Return a body; `weighing` is given what has come so far, once there is enough of it to be worth it.

    Raises `HTTPRequestEntityTooLarge`, and what `weighing` does.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(max_size=request.client_max_size, actual_size=size)
        parts.append(part)
        if weighing is not None and size > MOST_VALUES:
            await weighing.add(b"".join(parts) if size - len(part) <= MOST_VALUES else part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
