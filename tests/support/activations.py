"""Every registered activation, with parameters that leave no formula in a special case."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from workers.kernels.duals import ACTIVATIONS, Activation
from workers.kernels.duals.base import Dual

PARAMETERS: dict[str, dict[str, Any]] = {
    "leaky_relu": {"slope": 0.2},
    "relu_like": {"positive_slope": 1.3, "negative_slope": -0.4},
    "erf": {"amplitude": 1.2, "scale": 0.7},
    "sin": {"frequency": 1.5, "phase": 0.3},
    "exp": {"rate": 0.5},
    "polynomial": {"coefficients": [0.0, 1.0, -0.5, 0.25]},
    "hermite": {"degree": 4},
    "rectified_power": {"power": 3},
    "elu": {"alpha": 0.7},
    "combination": {
        "terms": [
            {"part": "tanh", "coefficient": 1.5},
            {"part": "elu", "coefficient": -0.5},
            {"part": "constant", "coefficient": 0.2},
        ]
    },
}
"""Fields besides `fn`; those not named here have their defaults."""

REGISTERED: tuple[str, ...] = tuple(
    model.model_json_schema()["properties"]["fn"]["const"] for model in ACTIVATIONS
)

TABULATED = {
    "tanh",
    "elu",
    "selu",
    "sigmoid",
    "softplus",
    "silu",
    "mish",
    "gelu_tanh",
    "combination",
}
"""Those without closed form: one implementation, seconds to tabulate and to compile. Of them,
NAMES holds one with a kink; unit/workers/kernels/duals/test_tabulated.py tests the others."""

NAMES: tuple[str, ...] = tuple(
    name for name in REGISTERED if name not in TABULATED or name == "elu"
)
"""For tests that compile every activation."""


def activation_fields(name: str) -> dict[str, Any]:
    return {"fn": name} | PARAMETERS.get(name, {})


def dual_of(fields: str | dict[str, Any]) -> Dual:
    """The dual of a registered activation: a name (with PARAMETERS) or its fields."""
    given = activation_fields(fields) if isinstance(fields, str) else fields
    return TypeAdapter(Activation).validate_python({"op": "activation"} | given).dual()
