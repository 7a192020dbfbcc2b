"""All experiments, by name."""

from __future__ import annotations

from typing import Any

from service.papers import (
    cdeq_small,
    cntk_small,
    depth_convergence,
    deq_depth,
    deq_mnist,
    inpainting,
    limits,
    mnist_pca,
    smoothness,
    unit_circle,
)
from service.papers.experiment import Experiment
from storage.errors import NotFoundError

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    unit_circle.EXPERIMENT,
    mnist_pca.EXPERIMENT,
    deq_mnist.EXPERIMENT,
    deq_depth.EXPERIMENT,
    cdeq_small.EXPERIMENT,
    cntk_small.EXPERIMENT,
    depth_convergence.EXPERIMENT,
    smoothness.EXPERIMENT,
    inpainting.EXPERIMENT,
    limits.EXPERIMENT,
)


def experiment(name: str) -> Experiment[Any]:
    """The experiment called `name`. Raises NotFoundError."""
    found = next((entry for entry in EXPERIMENTS if entry.name == name), None)
    if found is None:
        raise NotFoundError(
            f"There is no experiment {name!r}.",
            advice=f"Choose one of {', '.join(entry.name for entry in EXPERIMENTS)}.",
        )
    return found
