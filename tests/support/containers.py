"""Containers for tests, by the `docker` command: images of ours, and what runs in them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
# How an operator runs it: nothing to write, nothing to gain.
RESTRICTED: Final = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=65532:65532",
    "--pids-limit=256",
)
NO_ENGINE = "No Docker engine answers: run this by `make container-tests`, or `.ci/docker pytest -m docker`."


def docker(*arguments: str, timeout_s: float = 60.0, check: bool = True) -> str:
    """Return what `docker` printed; fail with what it said if it did not do it."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr or done.stdout}"
    return (done.stdout + done.stderr if not check else done.stdout).strip()


def need_engine() -> None:
    """Fail, never skip, where no engine answers."""
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        raise AssertionError(NO_ENGINE) from None
    assert done.returncode == 0, NO_ENGINE


def base_image() -> str:
    base = os.environ.get("BASE_IMAGE")
    assert base is not None, NO_ENGINE
    return base


def build(dockerfile: str, tag: str, *options: str, directory: Path = ROOT) -> str:
    """Build an image of ours on the base of this machine; return its tag."""
    need_engine()
    # The classic builder says on stderr that it is one.
    docker(
        *("build", "--quiet", "--network=host", f"--build-arg=BASE_IMAGE={base_image()}"),
        *("-f", str(ROOT / dockerfile), "-t", tag, *options, str(directory)),
        timeout_s=900,
    )
    return tag


@dataclass(frozen=True)
class Container:
    id: str

    @property
    def state(self) -> dict[str, Any]:
        page: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.id))
        return page

    @property
    def health(self) -> str:
        state = self.state
        assert state["Running"], f"it ended: {self.logs()}"
        return str(state["Health"]["Status"])

    @property
    def address(self) -> str:
        """Its address on the engine's own network, which this machine reaches."""
        return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.id)

    def logs(self) -> str:
        return docker("logs", "--tail", "30", self.id, check=False)

    def run(self, *command: str) -> str:
        return docker("exec", self.id, *command)


@contextmanager
def container(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
    """Run a container until the end of the block."""
    one = Container(docker("run", "--detach", *options, image, *command).splitlines()[-1])
    try:
        yield one
    finally:
        docker("rm", "--force", "--volumes", one.id)
