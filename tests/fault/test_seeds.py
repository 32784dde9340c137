"""A few seeds of `make fault`, as long as a build may wait for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.hosts import why_not
from tests.fault.telling import tell
from tests.fault.trial import trial
from tests.support.printing import PRINTED

SEEDS = (2, 5, 8)
SECONDS = 15.0


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_done_to_them_nothing_is_lost_doubled_or_out_of_order(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    outcome = await trial(seed, SECONDS, tmp_path / "trial", separate=why_not() is None)
    said = "\n".join(tell(outcome))
    record_property(PRINTED, said)
    assert outcome.good, said
