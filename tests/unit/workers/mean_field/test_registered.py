"""Mean-field theory of every registered activation."""

from __future__ import annotations

import numpy as np
import pytest

from support.activations import NAMES, activation_fields, dual_of
from workers.analyses.errors import InvalidAnalysisError
from workers.mean_field.moments import moments
from workers.mean_field.phase import phase


@pytest.mark.parametrize("name", NAMES)
def test_phase_of_every_activation(name: str) -> None:
    """A finite variance whose map it is a fixed point of, or growth without bound."""
    fields = activation_fields(name)
    if not dual_of(name).differentiable:
        with pytest.raises(InvalidAnalysisError, match="no mean-field slope"):
            phase(fields, 0.5, 0.1)
        return
    found = phase(fields, 0.5, 0.1)
    assert found.phase in {"ordered", "chaotic", "edge-of-chaos", "unbounded"}
    if found.variance is not None and found.variance > 0:
        second = moments(fields).second(np.array([found.variance]))[0]
        assert 0.25 * second + 0.01 == pytest.approx(found.variance, rel=1e-10)


def test_pairs_beyond_the_tables_are_an_error() -> None:
    tanh = moments("tanh")
    assert np.isfinite(tanh.second(np.array([1e6]))).all()
    with pytest.raises(InvalidAnalysisError, match="tabulated up to standard deviation 256"):
        tanh.pair_step(1e6, np.array([0.5]))
