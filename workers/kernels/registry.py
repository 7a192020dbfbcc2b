"""The catalogue of the kernel language: every op, activation and preset, with JSON schemas.

Built from the models themselves, so it cannot disagree with what `parse_kernel` accepts.
"""

from __future__ import annotations

from typing import Any, get_args

from workers.kernels.duals import ACTIVATIONS
from workers.kernels.duals.base import CatalogueModel
from workers.kernels.layers import MAX_LAYERS, MAX_NESTING, OPS
from workers.kernels.presets import preset_model, presets
from workers.kernels.spec import KernelSpec


def catalogue() -> dict[str, Any]:
    """JSON-serialisable description of the language, for `GET /v1/kernels`."""
    return {
        "outputs": [
            {"name": "nngp", "summary": "covariance of the outputs at initialisation"},
            {"name": "ntk", "summary": "neural tangent kernel, readout layer included"},
        ],
        "ops": [_entry(_tag(op, "op"), op) for op in OPS]
        + [
            {
                "name": "activation",
                "summary": "pointwise non-linearity; see activations",
                "source": "",
                "schema": {"enum": [_tag(fn, "fn") for fn in ACTIVATIONS]},
            }
        ],
        "activations": [_entry(_tag(fn, "fn"), fn) for fn in ACTIVATIONS],
        "presets": [preset_entry(name) for name in presets()],
        "limits": {"max_layers": MAX_LAYERS, "max_nesting": MAX_NESTING},
        "schema": KernelSpec.model_json_schema(),
    }


def preset_entry(name: str) -> dict[str, Any]:
    """Description of one preset, for `GET /v1/kernels/{preset}`, with its expansion at defaults.

    Raises InvalidKernelError for an unknown name.
    """
    preset = preset_model(name)
    example = preset.model_validate({"preset": name})
    return _entry(name, preset) | {
        "outputs": list(preset.outputs),
        "expansion": example.expand().canonical(),
    }


def _tag(model: type[CatalogueModel], field: str) -> str:
    """The value of a model's discriminator."""
    name: str = get_args(model.model_fields[field].annotation)[0]
    return name


def _entry(name: str, model: type[CatalogueModel]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": model.summary,
        "source": model.source,
        "schema": model.model_json_schema(),
    }
