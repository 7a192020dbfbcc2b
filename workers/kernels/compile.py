"""Compiled kernels: what tile tasks and library users call."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from workers.kernels.correlation import input_correlation, prepare, sampled_correlation
from workers.kernels.errors import InvalidInputsError, NoFixedPointError
from workers.kernels.input_ops import embed, split_ops
from workers.kernels.inputs import Panel, Product
from workers.kernels.outputs import OUTPUTS, check_outputs
from workers.kernels.program import build_program, float32_pairs, takes_series
from workers.kernels.ranges import range_error
from workers.kernels.recursion import BlockResult, FixedPointReport, evaluate_pairs, mirror
from workers.kernels.series.network import PanelSide, SeriesNetwork, SeriesPairs
from workers.kernels.spec import KernelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_BLOCK_ROWS = 512
"""Rows of a compute block: the unit of compilation and of bitwise reproducibility."""

ROW_MULTIPLE = 64
"""Block edges are multiples of this."""

LARGEST_GAIN = 4.0
"""Relative change of a kernel per change of rho up to which a product of float32 rows serves a
network of polynomials. Its largest error of rho in 8e5 pairs of digits is 2.4e-7, so results keep
1e-6; that of the product in pieces is less where rho is small (inputs.PIECE_FEATURES)."""

CONVERGED = 1e-12
"""Change in the last step of a fixed point's iteration that still counts as converged: relative
for variances, absolute for correlations."""


_mirror = jax.jit(mirror)


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows of one side as blocks take them; `side` where the block may go through polynomials,
    `positive` if no entry is below 0."""

    panel: Panel
    side: PanelSide | None
    positive: bool


class CompiledKernel:
    """NNGP and NTK of one network as functions of arrays.

    Instances hold jitted functions, which are compiled on first use for each shape; they pickle
    as their spec and may be shared between threads.
    """

    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self._evaluate = jax.jit(
            self._evaluate_pairs, static_argnames=("features", "outputs", "dtype")
        )
        self._series = functools.lru_cache(maxsize=8)(self._series_network)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledKernel, (self.spec,)

    def __call__(
        self,
        x1: NDArray[Any],
        x2: NDArray[Any] | None = None,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        block_rows: int = DEFAULT_BLOCK_ROWS,
    ) -> dict[str, NDArray[Any]]:
        """Kernel matrices between the rows of `x1` (n1, d) and `x2` (n2, d), by blocks.

        Samples of more than one dimension are flattened. `x2=None` means x1: the results are
        then exactly symmetric. Returns {"nngp": (n1, n2), "ntk": (n1, n2)} in the dtype of x1,
        float32 or float64. Peak memory is the results plus a few blocks and the prepared rows.

        Raises InvalidInputsError (shape, dtype, non-finite entries), InvalidKernelError (an output
        that this network does not have) and KernelRangeError.
        """
        check_outputs(self.spec, outputs)
        left = _checked_rows(x1, "x1")
        right = left if x2 is None else _checked_rows(x2, "x2")
        if left.dtype != right.dtype or left.shape[1] != right.shape[1]:
            raise InvalidInputsError(
                f"x1 holds {left.dtype} samples of {left.shape[1]} numbers, "
                f"x2 {right.dtype} samples of {right.shape[1]}.",
                advice="Give both sides the same dtype and the same number of features.",
            )
        block_rows = min(block_rows, _round_up(max(len(left), len(right))))
        panels1 = self._panels(left, block_rows)
        panels2 = panels1 if x2 is None else self._panels(right, block_rows)
        result = {name: np.empty((len(left), len(right)), left.dtype) for name in outputs}
        for i, panel1 in enumerate(panels1):
            for j, panel2 in enumerate(panels2):
                if x2 is None and j < i:
                    continue
                block = self._run(panel1, panel2, x2 is None and i == j, outputs, left.dtype)
                rows = slice(i * block_rows, min((i + 1) * block_rows, len(left)))
                columns = slice(j * block_rows, min((j + 1) * block_rows, len(right)))
                for name, values in block.items():
                    clipped = values[: rows.stop - rows.start, : columns.stop - columns.start]
                    result[name][rows, columns] = clipped
                    if x2 is None and i != j:
                        result[name][columns, rows] = clipped.T
        return result

    def panel(self, x: NDArray[Any], *, block_rows: int = DEFAULT_BLOCK_ROWS) -> PreparedRows:
        """The rows of `x` (n <= block_rows, d), padded with zero rows and prepared for `block`.

        May be used with any other panel of the same kernel, dtype and width: tile tasks prepare
        each panel once. Takes about three times the bytes of the padded rows.
        """
        like = np.zeros((), x.dtype)
        embedding, _ = split_ops(self.spec.input_ops)
        if embedding:  # in float64, and kept so: rounding would move rows that nearly coincide
            x = embed(embedding, x.astype(np.float64))
        padded = np.zeros((block_rows, x.shape[1]), x.dtype)
        padded[: len(x)] = x
        with jax.enable_x64(True):
            panel: Panel = prepare(padded, like)
            network = self._series(x.shape[1]) if like.dtype == np.float32 else None
            side = None if network is None else network.side(panel.length)
        return PreparedRows(panel, side, positive=not padded.min() < 0)

    def block(
        self,
        x1: NDArray[Any] | PreparedRows,
        x2: NDArray[Any] | PreparedRows,
        *,
        symmetric: bool,
        outputs: tuple[str, ...] = OUTPUTS,
        block_rows: int = DEFAULT_BLOCK_ROWS,
    ) -> dict[str, NDArray[Any]]:
        """One compute block of fixed shape, for tile tasks.

        `x1` (n1 <= block_rows, d) and `x2` are rows, or panels made of them. `symmetric`: both
        are the same rows. Rows are trusted to be finite. The result is clipped to (n1, n2) for
        rows and covers (block_rows, block_rows) for panels.

        Raises InvalidKernelError for an output that this network does not have, and
        KernelRangeError if a value does not fit the dtype.
        """
        check_outputs(self.spec, outputs)
        n1 = block_rows if isinstance(x1, PreparedRows) else len(x1)
        n2 = block_rows if isinstance(x2, PreparedRows) else len(x2)
        left = x1 if isinstance(x1, PreparedRows) else self.panel(x1, block_rows=block_rows)
        if symmetric:
            right = left
        else:
            right = x2 if isinstance(x2, PreparedRows) else self.panel(x2, block_rows=block_rows)
        dtype = np.dtype(left.panel.like.dtype)
        values = self._run(left, right, symmetric, outputs, dtype)
        return {name: value[:n1, :n2] for name, value in values.items()}

    def _series_network(self, features: int) -> SeriesNetwork | None:
        """This network as polynomials, on CPUs."""
        if not takes_series(self.spec, "float32") or jax.default_backend() != "cpu":
            return None
        return SeriesNetwork(build_program(self.spec, features), features)

    def _panels(self, x: NDArray[Any], block_rows: int) -> list[PreparedRows]:
        return [
            self.panel(x[start : start + block_rows], block_rows=block_rows)
            for start in range(0, len(x), block_rows)
        ]

    def _evaluate_pairs(
        self,
        folded: jax.Array,
        length1: jax.Array,
        length2: jax.Array,
        *,
        features: int,
        outputs: tuple[str, ...],
        dtype: str,
    ) -> BlockResult:
        return evaluate_pairs(
            build_program(self.spec, features),
            folded,
            length1,
            length2,
            features=features,
            outputs=outputs,
            dtype=dtype,
        )

    def convergence(self, x: NDArray[Any]) -> Convergence | None:
        """How the fixed point of this network converges on all pairs of the rows of `x` (n, d),
        one block's worth at most; None for a network whose kernel is in closed form.

        Raises InvalidInputsError. Does not raise NoFixedPointError: look at the numbers.
        """
        rows = _checked_rows(x, "x")
        panel = self.panel(rows, block_rows=_round_up(len(rows)))
        jumps = any(not x.dual().differentiable for x in self.spec.activations)
        outputs = ("nngp",) if jumps else OUTPUTS  # those that calls compile anyway
        with jax.enable_x64(True):
            result = self._block(panel.panel, panel.panel, True, outputs, rows.dtype)
        return None if result.fixed_point is None else Convergence.of(result.fixed_point)

    def _block(
        self,
        left: Panel,
        right: Panel,
        symmetric: bool,
        outputs: tuple[str, ...],
        dtype: np.dtype[Any],
    ) -> BlockResult:
        """Call with 64-bit types enabled."""
        single = left.unit.dtype == np.float32
        product: Product = "double" if single and not float32_pairs(self.spec) else "centered"
        result: BlockResult = self._evaluate(
            input_correlation(left, right, symmetric=symmetric, product=product),
            left.length,
            right.length,
            features=left.unit.shape[1],
            outputs=outputs,
            dtype=dtype.name,
        )
        return result

    def _run(
        self,
        left: PreparedRows,
        right: PreparedRows,
        symmetric: bool,
        outputs: tuple[str, ...],
        dtype: np.dtype[Any],
    ) -> dict[str, NDArray[Any]]:
        with jax.enable_x64(True):
            by_series = self._by_series(left, right, symmetric, outputs)
            if by_series is not None:
                return by_series
            result = self._block(left.panel, right.panel, symmetric, outputs, dtype)
            values = {
                name: _mirror(value) if symmetric else value
                for name, value in result.outputs.items()
            }
        if result.fixed_point is not None:
            _check_fixed_point(Convergence.of(result.fixed_point))
        largest = float(result.largest)
        if not largest <= np.finfo(dtype).max:
            raise range_error(self.spec.activations, largest, dtype, "rows")
        return {name: np.asarray(value) for name, value in values.items()}

    def _by_series(
        self,
        left: PreparedRows,
        right: PreparedRows,
        symmetric: bool,
        outputs: tuple[str, ...],
    ) -> dict[str, NDArray[Any]] | None:
        """The block through polynomials, or None where they do not serve."""
        network = self._series(left.panel.unit.shape[1])
        if network is None or left.side is None or right.side is None:
            return None
        pairs = network.pairs(left.side, right.side)
        if pairs is None:
            return None

        folded = self._correlation(left, right, symmetric, pairs)
        values = pairs.run(folded)
        if symmetric:
            return {name: np.asarray(_mirror(values[name])) for name in outputs}
        return {name: values[name] for name in outputs}

    def _correlation(
        self, left: PreparedRows, right: PreparedRows, symmetric: bool, pairs: SeriesPairs
    ) -> NDArray[Any]:
        """Folded correlations by the cheapest product whose errors stay within 1e-6 of results."""

        def by(product: Product) -> NDArray[Any]:
            panels = left.panel, right.panel
            return np.asarray(input_correlation(*panels, symmetric=symmetric, product=product))

        if left.positive and right.positive and pairs.proportional_gain() <= LARGEST_GAIN:
            return by("pieces")
        if pairs.gain(sampled_correlation(left.panel, right.panel)) <= LARGEST_GAIN:
            folded = by("centered")
            if pairs.gain(folded) <= LARGEST_GAIN:
                return folded
        return by("double")


@dataclass(frozen=True)
class Convergence:
    """How the fixed point of an equilibrium network converged.

    `contraction`: largest factor by which the body multiplies an NTK; the NTK exists below 1.
    `variance_change` and `correlation_change`: what still moved in the last step, relative and
    absolute. Steps are those of the slowest row or pair.
    """

    contraction: float
    variance_steps: int
    variance_change: float
    correlation_steps: int
    correlation_change: float

    @classmethod
    def of(cls, report: FixedPointReport) -> Convergence:
        return cls(
            contraction=float(report.rows.contraction),
            variance_steps=int(report.rows.iterations),
            variance_change=float(report.rows.change),
            correlation_steps=int(report.pairs.iterations),
            correlation_change=float(report.pairs.change),
        )

    @property
    def converged(self) -> bool:
        return (
            self.contraction < 1
            and self.variance_change <= CONVERGED
            and self.correlation_change <= CONVERGED
        )


def _check_fixed_point(convergence: Convergence) -> None:
    """Raise NoFixedPointError unless the fixed point, and with it the NTK, exists."""
    if convergence.converged:
        return
    if not convergence.variance_change <= CONVERGED:
        what = (
            f"the variances still change by a relative {convergence.variance_change:.2g} after "
            f"{convergence.variance_steps} layers"
        )
    elif not convergence.contraction < 1:
        what = (
            f"its body multiplies gradients by {convergence.contraction:.4g}, which must be below 1"
        )
    else:
        what = (
            f"the correlations still change by {convergence.correlation_change:.2g} after "
            f"{convergence.correlation_steps} steps"
        )
    raise NoFixedPointError(
        f"This equilibrium network has no fixed point on these rows: {what}.",
        advice="Use a smaller w_std in the body of the fixed point.",
        **asdict(convergence),
    )


def _round_up(rows: int) -> int:
    return -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE


def _checked_rows(x: NDArray[Any], name: str) -> NDArray[Any]:
    """`x` as a 2-d array of finite float32 or float64."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InvalidInputsError(
            f"{name} holds {x.dtype}; kernels take float32 or float64.",
            advice=f"Convert it: {name}.astype('float32').",
        )
    if x.ndim < 2 or 0 in x.shape:
        raise InvalidInputsError(
            f"{name} has shape {x.shape}; kernels take samples along the first axis, (n, d).",
            advice="Give at least one sample of at least one number.",
        )
    if not np.isfinite(x).all():
        raise InvalidInputsError(
            f"{name} has NaN or infinite entries.", advice="Remove or replace those samples."
        )
    return x.reshape(len(x), -1)
