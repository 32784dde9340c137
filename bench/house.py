"""A broker of one's own for a measurement: every process that it starts is let in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from session_fabric.jetstream.credentials import VARIABLE
from session_fabric.jetstream.embedded import EmbeddedBroker

from bench.gateway import GatewayProcess


@asynccontextmanager
async def own_gateway() -> AsyncIterator[tuple[EmbeddedBroker, GatewayProcess]]:
    """Run a broker, and a gateway at it that lets everybody in."""
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        async with own_broker(Path(directory) / "broker") as broker:
            with GatewayProcess(broker.url, Path(directory) / "gateway.log") as gateway:
                yield broker, gateway


@asynccontextmanager
async def own_broker(directory: Path, kind: type[EmbeddedBroker] = EmbeddedBroker) -> AsyncIterator[EmbeddedBroker]:
    """Run a broker; its key is in the environment for as long as it runs."""
    former = os.environ.get(VARIABLE)
    async with await kind.start(directory) as broker:
        os.environ[VARIABLE] = str(broker.keys.nkey)
        try:
            yield broker
        finally:
            del os.environ[VARIABLE]
            if former is not None:
                os.environ[VARIABLE] = former
