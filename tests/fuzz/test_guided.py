"""Every target runs by coverage, too, and what is wrong with one is found."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import effort
from tests.fuzz.targets import TARGETS

# Where there are wheels of it: without, guided fuzzing is for another machine, and the rest goes on here.
HAS = sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
_SECONDS = max(1, int(effort.seconds(effort.GUIDED) / len(TARGETS)))

pytestmark = pytest.mark.skipif(not HAS, reason="there is no atheris for this machine")


def guided(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    assert importlib.util.find_spec("atheris"), "atheris is missing: run `make fuzz-env`."
    command = [sys.executable, *(["-c", code] if code else ["-m", "tests.fuzz.guided"]), *map(str, arguments)]
    timeout_s = 300 + 2 * _SECONDS * len(TARGETS)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, errors="replace")


@pytest.mark.slow
@pytest.mark.timeout(600 + effort.seconds(1.0))
def test_every_target_is_run_by_coverage_and_nothing_is_found(tmp_path: Path) -> None:
    done = guided(_SECONDS, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for target in TARGETS:
        assert f"fuzz {target.name}\n" in done.stdout
    # It is guided: of some, what reaches other code than the seeds was found, and kept.
    grown = [target for target in TARGETS if len(list((tmp_path / target.name).iterdir())) > len(target.seeds)]
    assert len(grown) > len(TARGETS) / 2


_WRONG = """
import sys
from pathlib import Path
import atheris
import tests.fuzz.guided as guided

with atheris.instrument_imports(include=["session_fabric"]):
    from tests.fuzz.target import Target

@atheris.instrument_func
def wrong(data):
    if data[:1] == b"F":
        if data[1:2] == b"U":
            if data[2:3] == b"Z":
                raise RuntimeError("found")

guided._fuzz(Target("wrong", wrong, [b"seed"]), 60, Path(sys.argv[1]))
"""


@pytest.mark.timeout(120)
def test_what_noise_would_not_find_is_found_by_coverage(tmp_path: Path) -> None:
    done = guided(tmp_path, code=_WRONG)
    assert done.returncode != 0
    assert "found" in done.stdout + done.stderr
    assert [file.read_bytes()[:3] for file in tmp_path.glob("wrong-crash-*")] == [b"FUZ"]
