"""The demo agent as a process: `python -m session_fabric_cli.demo --nats URL`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import AsyncIterator

from session_fabric import Fabric, FabricError, logs
from session_fabric.otlp import exporting
from session_fabric.told import ending_signals
from session_fabric.tracing import Traces

from session_fabric_cli.demo.agent import PARTICIPANT, DemoAgent
from session_fabric_cli.demo.search import Search
from session_fabric_cli.demo.sections import find_sections
from session_fabric_cli.demo.writers import Answerer, SearchAnswerer


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="session_fabric_cli.demo", description=__doc__)
    parser.add_argument("--nats", required=True, help="URL of the broker")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--model", help="name of a model; without one the search answers alone")
    parser.add_argument("--model-url", help="base URL of an OpenAI-compatible API")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="environment variable with the API key")
    parser.add_argument("--pace-ms", type=float, default=30.0, help="pause after each word of an answer")
    return parser.parse_args(arguments)


@contextlib.asynccontextmanager
async def answerer(chosen: argparse.Namespace, search: Search) -> AsyncIterator[Answerer]:
    if chosen.model is None:
        yield SearchAnswerer(search, chosen.pace_ms / 1000)
        return
    try:
        from session_fabric_cli.demo.model import ModelAnswerer, openai_model
    except ImportError as error:
        raise SystemExit(f"--model needs an extra: pip install 'session-fabric-cli[model]' ({error})") from error
    key = os.environ.get(chosen.api_key_env)
    async with openai_model(chosen.model, chosen.model_url, key) as model:
        yield ModelAnswerer(search, model)


async def serve(chosen: argparse.Namespace, traces: Traces | None) -> None:
    search = Search(find_sections())
    async with (
        answerer(chosen, search) as writer,
        Fabric.connect(chosen.nats, tenant=chosen.tenant, participant=PARTICIPANT, traces=traces) as fabric,
    ):
        ready = functools.partial(print, '{"ready": true}', flush=True)
        agent = DemoAgent(fabric, writer)
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, agent.stop)
        await agent.serve(ready)
    search.close()


def main() -> None:
    try:
        logs.to_stderr("info", logs.form_of())
        chosen = options(sys.argv[1:])
        with exporting("session-fabric-demo-agent") as traces:
            asyncio.run(serve(chosen, traces))
    except FabricError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
