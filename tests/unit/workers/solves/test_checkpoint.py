"""Checkpoints survive the round trip exactly, and unusable ones are named, not used."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from storage.blobs import BlobStore
from workers.solves.block_cg import CGState
from workers.solves.checkpoint import checkpoint_key, fingerprint, load, save

KEY = checkpoint_key("job-1")


def state() -> CGState:
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((30, 4)) for _ in range(3)]
    return CGState(
        x=blocks[0],
        q=blocks[1],
        c=rng.standard_normal((4, 4)),
        p=blocks[2],
        anchor=np.zeros((30, 4)),
        iteration=7,
        applications=9,
        precise=True,
        largest=1 / 3,
        certified=[1e-3, 0.1 + 0.2],
        residual_history=[1.0, 1 / 7],
        certified_history=[(5, 0.3)],
    )


def test_round_trip_is_exact(blobs: BlobStore) -> None:
    save(blobs, KEY, "system", state())
    loaded, reason = load(blobs, KEY, "system")
    assert reason is None
    assert loaded is not None
    for field in dataclasses.fields(CGState):
        mine, theirs = getattr(state(), field.name), getattr(loaded, field.name)
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
    assert loaded.smallest == float("inf")


def test_no_checkpoint_is_no_warning(blobs: BlobStore) -> None:
    assert load(blobs, KEY, "system") == (None, None)


def test_another_system_is_named(blobs: BlobStore) -> None:
    save(blobs, KEY, "system", state())
    loaded, reason = load(blobs, KEY, "other")
    assert loaded is None
    assert reason is not None
    assert "another system" in reason


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_damage_is_named(blobs: BlobStore, damage: str) -> None:
    save(blobs, KEY, "system", state())
    data = bytearray(blobs.get(KEY))
    if damage == "flip":
        data[400] ^= 255
    damaged = {"truncate": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"hello"}
    blobs.put(KEY, bytes(damaged[damage]))
    loaded, reason = load(blobs, KEY, "system")
    assert loaded is None
    assert reason is not None
    assert "afresh" in reason


def test_pickled_members_are_not_loaded(blobs: BlobStore, tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "evil.npz"
    np.savez(file, header=np.array([object()], dtype=object), allow_pickle=True)
    blobs.put(KEY, file.read_bytes())
    loaded, reason = load(blobs, KEY, "system")
    assert loaded is None
    assert reason is not None


def test_fingerprint_sees_every_part_of_the_system() -> None:
    rhs = np.arange(6.0).reshape(3, 2)
    base = fingerprint("digest", "ntk", 0.1, rhs)
    assert base == fingerprint("digest", "ntk", 0.1, np.asfortranarray(rhs))
    changed = rhs.copy()
    changed[2, 1] = np.nextafter(changed[2, 1], 9)
    others = [
        fingerprint("other", "ntk", 0.1, rhs),
        fingerprint("digest", "nngp", 0.1, rhs),
        fingerprint("digest", "ntk", np.nextafter(0.1, 1), rhs),
        fingerprint("digest", "ntk", 0.1, changed),
        fingerprint("digest", "ntk", 0.1, rhs.reshape(2, 3)),
    ]
    assert len({base, *others}) == 6
