"""What can be said of the images without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.containers import ROOT

DOCKERFILES = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("deploy/*Dockerfile"))
LABEL = re.compile(r'org\.opencontainers\.image\.version="([^"]+)"')


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_dockerfiles_are_as_hadolint_wants_them(dockerfile: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / dockerfile], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "gateway/pyproject.toml").read_text())["project"]["version"]
    assert LABEL.findall((ROOT / "deploy/Dockerfile").read_text()) == [version]
    assert f"session-fabric:{version}" in (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.parametrize("file", ["image", "build", "nats"])
def test_whatever_goes_into_an_image_is_known_by_its_hash(file: str) -> None:
    lines = (ROOT / f"requirements/{file}.txt").read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert packages
    assert [line.split()[0] for line in packages if "--hash=sha256:" not in line] == []
