"""Whatever bytes come, a parser returns a value or one of our errors, which has a code and can be told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.fuzz import effort
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

# The same examples each time, and no memory of what failed: a failure here is a failure everywhere.
short = settings(
    derandomize=True, database=None, deadline=None, max_examples=250, suppress_health_check=list(HealthCheck)
)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@every_target
def test_good_input_is_read(target: Target) -> None:
    for seed in target.seeds:
        target.run(seed)


@every_target
@short
@given(random=st.randoms(use_true_random=False))
def test_a_mutant_is_read_or_refused_by_a_code(target: Target, random: Random) -> None:
    data = mutated(random, target.seeds)
    note(repr(data))
    target.run(data)


@every_target
@short
@given(data=st.binary(max_size=200))
def test_noise_is_read_or_refused_by_a_code(target: Target, data: bytes) -> None:
    target.run(data)


@every_target
def test_mutants_of_numbered_tries_are_read_or_refused_by_a_code(target: Target) -> None:
    for said, random in effort.tries(target.name, 50, effort.PARSERS / len(TARGETS)):
        data = mutated(random, target.seeds)
        try:
            target.run(data)
        except Exception as error:
            error.add_note(f"{said}: {data[:2000]!r}")
            raise
