"""What an estimator needs of a client of a service: `service.client.Client` has it."""

from __future__ import annotations

from typing import Any, Protocol, Self

from numpy.typing import NDArray


class Predictions(Protocol):
    def numpy(self) -> NDArray[Any]: ...


class Solve(Protocol):
    def wait(self) -> Self: ...

    @property
    def coefficients(self) -> NDArray[Any]: ...

    def predict(self, x: Any) -> Predictions: ...


class Gram(Protocol):
    def solve(self, **options: Any) -> Solve: ...


class GramClient(Protocol):
    """Computes and keeps Gram matrices, and solves with them, in other processes."""

    def gram(self, x: Any, *, kernel: Any, y: Any, **options: Any) -> Gram: ...
