"""What came of a seed, for whoever reads it."""

from __future__ import annotations

from typing import Final

from tests.fault.trial import Outcome

# How many of many verdicts are printed; `--judge` has them again.
_NAMED: Final = 20


def tell(outcome: Outcome) -> list[str]:
    """Say what came of a seed, and how to have it again."""
    said = [f"seed {outcome.seed}: {'good' if outcome.good else 'BROKEN'}. {outcome.counts}."]
    said += [f"  {len(outcome.done)} faults: {'; '.join(outcome.done)}"] if outcome.done else []
    said += [f"  left out here: {'; '.join(outcome.left_out)}"] if outcome.left_out else []
    said += [f"  longest pause: {outcome.pauses[0]}"] if outcome.pauses else []
    if not outcome.good:
        said += [f"  {verdict}" for verdict in outcome.verdicts[:_NAMED]]
        said += [f"  … and {more} more"] if (more := len(outcome.verdicts) - _NAMED) > 0 else []
        said += [f"  {what}" for what in outcome.amiss]
        said += [f"  Again: make fault SEED={outcome.seed}. Journals and logs: {outcome.directory}"]
    return said
