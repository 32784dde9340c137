"""What parsers log of broken input is not looked at here, and a long run may last."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import structlog

from tests.fuzz import effort


@pytest.fixture(autouse=True)
def quiet(logs_as_nobody_configured_them: None) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that go on for their share of a long run the time to."""
    if effort.LONG:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.timeout(effort.seconds(1.0) + 600))
