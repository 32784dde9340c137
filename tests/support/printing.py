"""What a test has to say to whoever reads the run: printed at its end, whichever process ran it."""

from __future__ import annotations

from typing import Final

import pytest

# The name under which a test records it: `record_property(PRINTED, text)`.
PRINTED: Final = "printed"


def print_all(reporter: pytest.TerminalReporter) -> None:
    """Print what the tests of a run have recorded."""
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            for name, text in getattr(report, "user_properties", []):
                if name == PRINTED:
                    reporter.section(report.nodeid)
                    reporter.write_line(str(text))
