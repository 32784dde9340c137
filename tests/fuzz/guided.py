"""Runs targets by coverage: `python -m tests.fuzz.guided SECONDS DIRECTORY [NAME…]`, so many seconds each.

What is run is watched (atheris, which is libFuzzer's): input that reaches new code is kept, and changed further. Ends
with 0 when nothing was found; else names what was found in, and the input that did it is in the directory, which holds
the inputs that reach different code too, for the next run to begin with. Atheris is there for some Pythons on Linux
alone: `requirements/fuzz.txt`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import atheris

if TYPE_CHECKING:
    from tests.fuzz.target import Target

# What is watched: ours.
_WATCHED: Final = ["session_fabric", "session_fabric_gateway"]
_MOST_BYTES: Final = 4096
# One try that takes longer is a finding.
_LONGEST_S: Final = 10


def main(seconds: int, directory: Path, names: Sequence[str]) -> int:
    with atheris.instrument_imports(include=_WATCHED):
        from tests.fuzz.targets import TARGETS
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found = []
    for target in TARGETS:
        if names and target.name not in names:
            continue
        print(f"fuzz {target.name}", flush=True)
        # libFuzzer ends its process; what has been imported, instrumented, is all of ours again and again.
        child = os.fork()
        if child == 0:
            _fuzz(target, seconds, directory)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            found.append(target.name)
    for name in found:
        print(f"found in {name}: see {directory}/{name}-*", flush=True)
    return 1 if found else 0


def _fuzz(target: Target, seconds: int, directory: Path) -> None:
    corpus = directory / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        target.run(data)

    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={_MOST_BYTES}",
        f"-timeout={_LONGEST_S}",
        f"-artifact_prefix={directory}/{target.name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
