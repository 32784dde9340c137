"""Whatever bytes come, a parser returns a value or one of our errors, which has a code and can be told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@given(random=st.randoms(use_true_random=False))
def test_a_mutant_is_read_or_refused_by_a_code(target: Target, random: Random) -> None:
    target.run(mutated(random, target.seeds))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@given(data=st.binary(max_size=200))
def test_noise_is_read_or_refused_by_a_code(target: Target, data: bytes) -> None:
    target.run(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_input_is_read(target: Target) -> None:
    for seed in target.seeds:
        target.run(seed)
