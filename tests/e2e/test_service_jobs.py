"""The main job through the front door: a service process, its own workers, the Python client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from service.client import ApiError, Client, Event
from support.server import ServiceProcess
from workers.kernels import compile_kernel

pytestmark = pytest.mark.cluster

KERNEL = {"preset": "fc", "depth": 2, "w_std": 1.3, "b_std": 0.1}
RIDGE = 1e-3
TRAIN, TEST, CLASSES = 500, 120, 3


@dataclass(frozen=True)
class Bench:
    """A running service with data, its Gram and cross-Gram matrices, and float64 references."""

    client: Client
    train: str
    test: str
    gram: str
    cross: str
    labels: np.ndarray
    test_labels: np.ndarray
    k: np.ndarray  # float64 (TRAIN, TRAIN)
    k_cross: np.ndarray  # float64 (TEST, TRAIN)


def blobs_of_points(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping clouds in ten dimensions."""
    labels = rng.integers(0, CLASSES, count)
    centres = np.eye(CLASSES, 10) * 2.0
    return (centres[labels] + rng.standard_normal((count, 10))).astype(np.float32), labels


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    rng = np.random.default_rng(0)
    x, labels = blobs_of_points(rng, TRAIN)
    x_test, test_labels = blobs_of_points(rng, TEST)
    kernel = compile_kernel(KERNEL)
    folder = tmp_path_factory.mktemp("e2e")
    settings = {"compute_block_rows": 64, "event_throttle_seconds": 0.0}
    with ServiceProcess(folder, n_workers=1, **settings) as service:
        service.start()
        with service.client() as client:
            train = client.upload(x, labels, name="train").id
            test = client.upload(x_test, test_labels, name="test").id
            gram = finished(client, client.gram(train, kernel=KERNEL, outputs=["nngp", "ntk"]).id)
            cross = finished(client, client.gram(test, train, kernel=KERNEL).id)
            yield Bench(
                client=client,
                train=train,
                test=test,
                gram=gram,
                cross=cross,
                labels=labels,
                test_labels=test_labels,
                k=kernel(x.astype(np.float64))["ntk"],
                k_cross=kernel(x_test.astype(np.float64), x.astype(np.float64))["ntk"],
            )


def finished(client: Client, job_id: str, events: list[Event] | None = None) -> str:
    """Wait for a job to succeed; the id of its matrix."""
    job = client.wait(
        job_id, on_event=(lambda e: events.append(e)) if events is not None else print
    )
    assert job.state == "succeeded", job.error
    return str(client.result(job_id)["matrix"])


def test_the_gram_matrix_equals_the_reference_and_is_symmetric(bench: Bench) -> None:
    group = zarr.open(bench.client.zarr_url(bench.gram), mode="r")
    ntk = group["ntk"][:]
    assert ntk.dtype == np.float32
    assert (ntk == ntk.T).all()
    np.testing.assert_allclose(ntk, bench.k, rtol=3e-6)  # the kernels have tests of their own
    np.testing.assert_array_equal(ntk, bench.client.slice(bench.gram, array="ntk"))
    info = bench.client.matrix(bench.gram)
    assert info.state == "sealed"
    assert sorted(info.arrays) == ["nngp", "ntk"]


def test_rows_of_the_cross_gram_are_test_samples(bench: Bench, tmp_path: Path) -> None:
    path = bench.client.fetch(bench.cross, tmp_path / "cross.npy")
    values = np.load(path)
    assert values.shape == (TEST, TRAIN)
    np.testing.assert_allclose(values, bench.k_cross, rtol=3e-6)


@pytest.mark.slow
def test_a_convolutional_gram_of_images(bench: Bench) -> None:
    """Samples keep their axes; the estimate says what is carried per pair; bad shapes are told."""
    client, kernel = bench.client, {"preset": "cntk", "depth": 2}
    images = np.random.default_rng(1).random((20, 6, 5, 3)).astype(np.float32)
    data = client.upload(images, name="images").id
    task = {"type": "gram", "kernel": kernel, "x1": data}
    assert client.estimate(task)["estimate"]["representation"] == "planes"
    matrix = finished(client, client.gram(data, kernel=kernel).id)
    expected = compile_kernel(kernel)(images.astype(np.float64))["ntk"]
    np.testing.assert_allclose(client.slice(matrix, array="ntk"), expected, rtol=1e-6)
    with pytest.raises(ApiError, match="Samples have shape") as caught:
        client.gram(bench.train, kernel=kernel)
    assert caught.value.status == 422


@pytest.mark.slow
@pytest.mark.parametrize(("readout", "representation"), [("trace", "diagonal"), ("gap", "planes")])
def test_a_gram_of_a_convolutional_equilibrium_network(
    bench: Bench, readout: str, representation: str
) -> None:
    """Several tiles on several workers, within 1e-6 of float64."""
    client = bench.client
    kernel = {"preset": "cdeq", "w_var": 0.8, "u_var": 0.2, "readout": readout}
    images = np.random.default_rng(2).random((70, 6, 5, 3)).astype(np.float32)
    data = client.upload(images, name="images").id
    task = {"type": "gram", "kernel": kernel, "x1": data, "tile_rows": 64}
    assert client.estimate(task)["estimate"]["representation"] == representation
    matrix = finished(client, client.submit(task).id)
    expected = compile_kernel(kernel)(images.astype(np.float64))["ntk"]
    np.testing.assert_allclose(client.slice(matrix, array="ntk"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("cholesky", {}),
        ("cg", {"tolerance": 1e-6, "placement": "memory"}),
        ("cg", {"tolerance": 1e-6, "placement": "stream"}),
        ("nystrom", {"inducing": TRAIN}),  # all points: the exact solution
    ],
)
def test_solves_predict_what_dense_algebra_predicts(
    bench: Bench, method: str, options: dict[str, object]
) -> None:
    client = bench.client
    task = {
        "matrix": bench.gram,
        "array": "ntk",
        "method": method,
        "ridge": RIDGE,
        "cross": bench.cross,
        **options,
    }
    estimate = client.estimate({"type": "solve", **task})
    assert estimate["admitted"]
    events: list[Event] = []
    job = client.submit({"type": "solve", **task})
    matrix = finished(client, job.id, events)
    assert matrix == estimate["matrix"]
    y = np.where(bench.labels[:, None] == np.arange(CLASSES), 0.9, -0.1)
    ridge = RIDGE * np.trace(bench.k) / TRAIN
    dual = np.linalg.solve(bench.k + ridge * np.eye(TRAIN), y)
    expected = bench.k_cross @ dual
    predictions = client.slice(matrix, array="predictions")
    assert predictions.shape == (TEST, CLASSES)
    assert client.slice(matrix, array="dual").shape == (TRAIN, CLASSES)
    np.testing.assert_allclose(predictions, expected, atol=2e-3)
    summary = client.result(job.id)["summary"]
    accuracy = np.mean(expected.argmax(axis=1) == bench.test_labels)
    assert abs(summary["accuracy"] - accuracy) <= 1 / TEST
    assert accuracy > 0.7
    assert summary["usable"] is True
    assert summary["stats"]["certified_max"] < 1e-2
    assert [e.id for e in events] == list(range(1, len(events) + 1))
    if method == "cg":
        residuals = [e.data["residual"] for e in events if "residual" in e.data]
        assert residuals[-1] < residuals[0]


def test_a_repeated_request_is_answered_with_the_result(bench: Bench) -> None:
    job = bench.client.gram(bench.train, kernel=KERNEL, outputs=["ntk", "nngp"], tile_rows=256)
    assert job.state == "succeeded"
    assert job.matrix.id == bench.gram


def test_estimates_rest_on_measurements_afterwards(bench: Bench) -> None:
    task = {"type": "gram", "kernel": KERNEL, "x1": bench.train, "outputs": ["nngp", "ntk"]}
    assert bench.client.estimate(task)["estimate"]["basis"] == "measured"


def test_what_a_matrix_was_made_from_cannot_be_deleted_first(bench: Bench) -> None:
    with pytest.raises(ApiError) as caught:
        bench.client.delete_dataset(bench.train)
    assert caught.value.kind == "conflict"


def test_a_kernel_that_overflows_fails_its_job_with_advice(bench: Bench) -> None:
    job = bench.client.gram(bench.test, kernel={"preset": "fc", "depth": 400, "w_std": 4.0})
    ended = bench.client.wait(job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["advice"]
    with pytest.raises(ApiError) as caught:
        bench.client.result(job.id)
    assert caught.value.kind == "job-failed"
    again = bench.client.gram(bench.test, kernel={"preset": "fc", "depth": 400, "w_std": 4.0})
    assert again.id != job.id
    assert bench.client.wait(again.id).state == "failed"


def test_a_cancelled_job_stops_and_its_tiles_are_used_again(bench: Bench) -> None:
    client = bench.client
    rng = np.random.default_rng(5)
    # Seconds of tiles: the request to cancel must come while there are some left.
    data = client.upload(rng.standard_normal((6000, 10)).astype(np.float32)).id
    task = {"type": "gram", "kernel": KERNEL, "x1": data, "tile_rows": 64}
    job = client.submit(task)
    for event in client.watch(job.id):
        if event.type == "progress" and event.data["tiles_done"] > 0:
            break
    assert client.cancel(job.id).document["cancelling"] is True
    ended = client.wait(job.id)
    assert ended.state == "cancelled"
    assert ended.progress is not None
    kept = ended.progress["tiles_done"]
    assert 0 < kept < ended.progress["tiles_total"]
    with pytest.raises(ApiError) as caught:
        client.slice(str(job.matrix))
    assert caught.value.kind == "not-ready"
    again = client.submit(task)
    assert again.id != job.id
    finished(client, again.id)
    summary = client.result(again.id)["summary"]
    assert summary["computed_tiles"] <= summary["tiles"] - kept
