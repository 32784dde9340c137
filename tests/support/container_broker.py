"""nats-server in a container, by testcontainers: `pytest --broker=container`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.containers import need_engine
from tests.support.servers import OPEN

_INSIDE = "/etc/nats.conf"
# Nothing is pulled: testcontainers' reaper is an image, and containers end with the block that made them. Ports are
# published on the machine that the engine runs on.
_ENVIRONMENT = {
    "TESTCONTAINERS_RYUK_DISABLED": "true",
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
}


@contextmanager
def container_broker(image: str, directory: Path) -> Iterator[str]:
    """Run one, and return where it is."""
    need_engine()
    os.environ.update(_ENVIRONMENT)  # read when it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own ways to wait, by itself
        from testcontainers.community.nats import NatsContainer

        config = directory / "nats.conf"
        config.write_text('jetstream { store_dir: "/data" }\nmax_payload: 1MB\n' + "\n".join(OPEN) + "\n")
        config.chmod(0o644)
        one = NatsContainer(image, ready_timeout_secs=60).with_command(f"-c {_INSIDE}")
        with one.with_volume_mapping(str(config), _INSIDE, "ro") as started:
            yield started.nats_uri()
