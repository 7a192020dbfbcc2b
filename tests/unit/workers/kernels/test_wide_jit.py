"""JAX functions compiled for wide vectors, also where XLA cannot be asked for them."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from workers.kernels import wide_jit as module


def test_xla_knows_the_option() -> None:
    module._known.cache_clear()
    assert module._known() == module.WIDE
    power = module.wide_jit(lambda x, n: x**n, static_argnums=1)
    assert power(jnp.float32(3), 2) == 9


def test_another_xla_compiles_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDE", {"xla_cpu_no_such_option": 512})
    module._known.cache_clear()
    assert module._known() is None
    assert module.wide_jit(lambda x: x + 1)(jnp.float32(3)) == 4
    module._known.cache_clear()
