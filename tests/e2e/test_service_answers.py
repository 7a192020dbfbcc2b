"""Answers from stored Grams through the front door: submitted, computed by workers, fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.svm import SVC

from service.client import ApiError, Client, Job
from support.oracle import oracle
from support.server import ServiceProcess
from workers.analyses.label_kernel import label_kernel
from workers.kernels import compile_kernel

pytestmark = pytest.mark.cluster

KERNEL = {"preset": "fc", "depth": 2, "w_std": 1.5, "b_std": 0.4}
TRAIN, TEST, CLASSES = 150, 40, 3


@dataclass(frozen=True)
class Bench:
    """A running service with Grams of train and test set, and their float64 references."""

    client: Client
    train: str
    test: str
    gram: str
    cross: str
    labels: np.ndarray
    test_labels: np.ndarray
    nngp: np.ndarray
    ntk: np.ndarray


def finished(client: Client, job: Job) -> str:
    """The id of the matrix of a job that must succeed."""
    ended = client.wait(job.id)
    assert ended.state == "succeeded", ended.error
    return str(ended.matrix)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    rng = np.random.default_rng(0)
    labels, test_labels = rng.integers(0, CLASSES, TRAIN), rng.integers(0, CLASSES, TEST)
    centres = np.eye(CLASSES, 6) * 2.0
    x = centres[labels] + rng.standard_normal((TRAIN, 6))
    x_test = centres[test_labels] + rng.standard_normal((TEST, 6))
    folder = tmp_path_factory.mktemp("answers")
    settings = {"compute_block_rows": 64, "event_throttle_seconds": 0.0}
    with ServiceProcess(folder, n_workers=1, **settings) as service:
        service.start()
        with service.client() as client:
            train = client.upload(x, labels).id
            test = client.upload(x_test, test_labels).id
            both = {"outputs": ["nngp", "ntk"]}
            gram = finished(client, client.gram(train, kernel=KERNEL, **both))
            cross = finished(client, client.gram(test, train, kernel=KERNEL, **both))
            out = compile_kernel(KERNEL)(x)
            yield Bench(
                client,
                train,
                test,
                gram,
                cross,
                labels,
                test_labels,
                np.asarray(out["nngp"]),
                np.asarray(out["ntk"]),
            )


def test_a_spectrum_is_that_of_the_kernel(bench: Bench) -> None:
    job = bench.client.spectrum(bench.gram, components=2, ridge=1e-2)
    answer = bench.client.answer(job)
    exact = np.linalg.eigvalsh(bench.ntk)[::-1]
    np.testing.assert_allclose(answer.arrays["eigenvalues"], exact, rtol=1e-9)
    conditioning = answer.summary["conditioning"]
    assert conditioning["condition_number"] == pytest.approx(exact[0] / exact[-1], rel=1e-8)
    ridge = 1e-2 * exact.mean()
    assert answer.summary["effective_rank"]["dimension"] == pytest.approx(
        (exact / (exact + ridge)).sum(), rel=1e-8
    )
    scores = answer.arrays["scores"]
    np.testing.assert_allclose(np.diag(scores.T @ scores), exact[:2], rtol=1e-9)
    phases = [e.data["phase"] for e in bench.client.watch(job.id) if e.type == "progress"]
    assert phases == ["computing", "sealing", "done"]


def test_an_analysis_without_arrays_has_a_summary_and_no_matrix(bench: Bench) -> None:
    asked = {"matrix": bench.gram, "other": bench.gram, "other_array": "nngp"}
    job = bench.client.analysis("kernel_alignment", **asked)
    answer = bench.client.answer(job)
    expected = np.sum(bench.ntk * bench.nngp) / np.linalg.norm(bench.ntk)
    assert answer.summary["value"] == pytest.approx(expected / np.linalg.norm(bench.nngp), rel=1e-9)
    assert answer.arrays == {}
    assert bench.client.job(job.id).matrix is None
    # The same request, defaults spelled out, is answered by the same job.
    again = bench.client.analysis("kernel_alignment", array="ntk", centred=False, **asked)
    assert again.id == job.id
    other = bench.client.analysis("kernel_alignment", centred=True, **asked)
    assert other.id != job.id


def test_an_analysis_with_arrays_stores_them(bench: Bench) -> None:
    answer = bench.client.answer(
        bench.client.analysis("kernel_pca", matrix=bench.gram, components=3)
    )
    vectors = answer.arrays["vectors"]
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        answer.summary["eigenvalues"], np.linalg.eigvalsh(bench.ntk)[:-4:-1] / TRAIN, rtol=1e-9
    )


def test_convergence_with_depth_is_a_table_and_a_picture(bench: Bench) -> None:
    depths = [10**4, 10**5, 10**6]
    asked = {"samples": bench.train, "rows": 4, "activation": "relu", "w_std": 2**0.5}
    answer = bench.client.answer(
        bench.client.analysis("depth_convergence", depths=depths, **asked)
    ).summary
    assert [row["depth"] for row in answer["table"]] == depths
    assert answer["limit"]["normaliser"] == "depth"
    # T^L/(q L) = 1/4 + (3/8) ln(L)/L + O(1/L): the slope of L times the distance against ln L.
    assert answer["fit"]["log_slope"] == pytest.approx(0.375, rel=5e-3)
    assert answer["limit"]["phase"]["fixed_points"] == []
    drawn = answer["plot"]["layer"][0]["data"]["values"]
    assert {point["depth"] for point in drawn} == set(depths)
    chaotic = bench.client.answer(
        bench.client.analysis(
            "depth_convergence", depths=[5, 10], **{**asked, "activation": "erf", "w_std": 1.5}
        )
    ).summary
    assert chaotic["table"][0]["ntk_equal"] is None  # grows without limit on the diagonal


def test_edge_of_chaos_phase_and_limit_against_the_reference(bench: Bench) -> None:
    table = oracle("eoc")
    b_std, w_std, variance, slope = next(
        row for name, row in zip(table["act"], table["table"], strict=True)
        if name == "erf" and row[0] == 0.2
    )  # fmt: skip
    asked = {"activation": "erf", "b_std": 0.2}
    edge = bench.client.answer(bench.client.analysis("edge_of_chaos", **asked)).summary
    (point,) = edge["points"]
    assert point["w_std"] == pytest.approx(w_std, rel=1e-10)
    assert point["variance"] == pytest.approx(variance, rel=1e-8)
    assert (point["stability"], b_std) == ("stable", 0.2)
    at = {**asked, "w_std": point["w_std"]}
    phase = bench.client.answer(bench.client.analysis("phase", **at)).summary
    assert phase["phase"] == "edge-of-chaos"
    assert phase["fixed_points"][0]["slope"] == pytest.approx(slope, abs=2e-8)
    limit = bench.client.answer(bench.client.analysis("depth_limit", **at)).summary
    assert limit["ntk_distinct"] == pytest.approx(variance / 3, rel=1e-7)


@pytest.mark.slow
def test_kernels_of_the_angle_against_the_reference(bench: Bench) -> None:
    spectra, smooth = oracle("spectra"), oracle("smoothness")
    kernel = {"preset": "fc", "depth": 2, "w_std": 2**0.5, "b_std": 0.3}
    found = bench.client.answer(
        bench.client.analysis("mercer_spectrum", kernel=kernel, dimension=3, k_max=12)
    ).summary
    np.testing.assert_allclose(found["values"], spectra["sphere|p=3|H=2|sb=0.3|lambda"], atol=1e-13)
    assert found["multiplicities"] == [2 * k + 1 for k in range(13)]
    found = bench.client.answer(
        bench.client.analysis(
            "smoothness",
            kernel={"preset": "fc", "depth": 5, "w_std": 1.0},
            angles=smooth["gam"].tolist(),
            values=smooth["y"].tolist(),
            length_scale=float(smooth["ell"]),
            k_max=int(smooth["kmax"]),
        )
    ).summary
    assert found["mu"] == pytest.approx(float(smooth["mu|mlp|L=5"]), rel=5e-6)
    assert np.shape(found["coefficients"]) == (21, 2)


def test_an_analysis_of_what_has_no_answer_fails_with_advice(bench: Bench) -> None:
    rng = np.random.default_rng(3)
    twice = bench.client.upload(np.repeat(rng.standard_normal((5, 4)), 2, axis=0)).id
    gram = finished(bench.client, bench.client.gram(twice, kernel={"preset": "fc", "depth": 1}))
    labels = bench.client.upload(rng.standard_normal((10, 2)), rng.standard_normal(10)).id
    job = bench.client.analysis("generalization_bound", matrix=gram, targets=labels)
    with pytest.raises(ApiError) as caught:
        bench.client.answer(job)
    assert caught.value.kind == "job-failed"
    error = bench.client.job(job.id).error
    assert error is not None
    assert error["kind"] == "invalid-analysis"
    assert "ridge" in error["advice"]


def test_predictions_for_new_inputs_do_without_a_stored_cross_gram(bench: Bench) -> None:
    solved = bench.client.solve(bench.gram, ridge=1e-3, cross=bench.cross, tolerance=1e-9)
    truth = bench.client.answer(solved)
    solution = finished(bench.client, solved)
    matrices = {matrix.id for matrix in bench.client.matrices()}
    job = bench.client.predict(solution, bench.test)
    streamed = bench.client.answer(job)
    np.testing.assert_allclose(
        streamed.arrays["predictions"], truth.arrays["predictions"], rtol=1e-9, atol=1e-11
    )
    assert streamed.summary["accuracy"] == truth.summary["accuracy"]
    assert streamed.summary["confusion"] == truth.summary["confusion"]
    progress = [e.data for e in bench.client.watch(job.id) if e.type == "progress"]
    assert progress[-2]["phase"] == "sealing"
    assert max(news.get("tiles_done", 0) for news in progress) == 3  # 40 x 150 in edges of 64
    # Nothing but the predictions has been stored.
    new = {matrix.id for matrix in bench.client.matrices()} - matrices
    assert new == {bench.client.job(job.id).matrix}
    stored = bench.client.answer(bench.client.predict(solution, cross=bench.cross))
    np.testing.assert_allclose(
        stored.arrays["predictions"], truth.arrays["predictions"], rtol=1e-9, atol=1e-11
    )


def test_ridges_and_classes_are_those_of_the_kernel(bench: Bench) -> None:
    ridges = [1e-6, 1e-3, 1e-1]
    job = bench.client.classify(bench.gram, ridges, cross=bench.cross, array="nngp")
    answer = bench.client.answer(job)
    y = np.eye(CLASSES)[bench.labels] - 1 / CLASSES
    ridge = answer.summary["ridge"]
    unit = np.trace(bench.nngp) / TRAIN
    assert min(abs(ridge / unit - r) / r for r in ridges) < 1e-8
    dual = np.linalg.solve(bench.nngp + ridge * np.eye(TRAIN), y)
    np.testing.assert_allclose(answer.arrays["dual"], dual, rtol=1e-5, atol=1e-7 * abs(dual).max())
    assert answer.summary["test"]["accuracy"] > 0.6
    assert answer.summary["test"]["accuracy"] == np.mean(
        answer.arrays["labels"] == bench.test_labels
    )
    # Its result is a solution like any other: new inputs are predicted from it.
    predicted = bench.client.answer(bench.client.predict(finished(bench.client, job), bench.test))
    np.testing.assert_allclose(
        predicted.arrays["predictions"], answer.arrays["predictions"], rtol=1e-7, atol=1e-9
    )
    # The same regression by the task that keeps the smallest squared error.
    fit = bench.client.answer(
        bench.client.ridge(
            bench.gram, [ridge], ridge_relative=False, array="nngp", encoding="centred_one_hot"
        )
    )
    np.testing.assert_allclose(fit.arrays["dual"], answer.arrays["dual"], rtol=1e-9)
    again = bench.client.classify(bench.gram, ridges[::-1], cross=bench.cross, array="nngp")
    assert again.id == job.id


def test_posteriors_and_training_of_the_kernel(bench: Bench) -> None:
    client = bench.client
    both = {"outputs": ["nngp", "ntk"]}
    test_gram = finished(client, client.gram(bench.test, kernel=KERNEL, **both))
    cross = {name: client.slice(bench.cross, array=name) for name in ("nngp", "ntk")}
    prior = client.slice(test_gram, array="nngp")
    y = np.where(np.eye(CLASSES)[bench.labels] > 0, 0.9, -0.1)
    found = client.answer(
        client.posterior(
            bench.gram,
            bench.cross,
            test_matrix=test_gram,
            ridge=0.1,
            ridge_relative=False,
            output="covariance",
        )
    )
    inverse = np.linalg.inv(bench.nngp + 0.1 * np.eye(TRAIN))
    np.testing.assert_allclose(found.arrays["mean"], cross["nngp"] @ inverse @ y, rtol=1e-7)
    np.testing.assert_allclose(
        found.arrays["covariance"],
        prior - cross["nngp"] @ inverse @ cross["nngp"].T,
        rtol=1e-7,
        atol=1e-9,
    )
    # An ensemble's mean at a time is what training from zero predicts then.
    asked = {"ridge": 0.1, "ridge_relative": False}
    ensemble = client.answer(
        client.posterior(
            bench.gram, bench.cross, model="ensemble", time=0.05, output="mean", **asked
        )
    )
    times = [0.0, 0.05, None]
    trained = client.answer(client.dynamics(bench.gram, times=times, cross=bench.cross, **asked))
    assert trained.arrays["test"].shape == (TEST, 3, CLASSES)
    np.testing.assert_allclose(
        trained.arrays["test"][:, 1], ensemble.arrays["mean"], rtol=1e-8, atol=1e-11
    )
    dual = np.linalg.solve(bench.ntk + 0.1 * np.eye(TRAIN), y)
    np.testing.assert_allclose(trained.arrays["test"][:, 2], cross["ntk"] @ dual, rtol=1e-6)
    assert trained.summary["curve"][2]["test_accuracy"] > 0.6


def test_a_likelihood_is_exact_or_within_its_error_bar(bench: Bench) -> None:
    asked = {"ridge": 0.5, "ridge_relative": False, "targets": bench.train}
    exact = bench.client.answer(bench.client.log_marginal_likelihood(bench.gram, **asked)).summary
    y = np.where(np.eye(CLASSES)[bench.labels] > 0, 0.9, -0.1)
    shifted = bench.nngp + 0.5 * np.eye(TRAIN)
    normal = multivariate_normal(np.zeros(TRAIN), shifted)
    np.testing.assert_allclose(exact["per_output"], normal.logpdf(y.T), rtol=1e-8)
    assert exact["log_marginal_likelihood"] == pytest.approx(normal.logpdf(y.T).sum(), rel=1e-8)
    assert (exact["method"], exact["standard_error"]) == ("cholesky", 0.0)
    job = bench.client.log_marginal_likelihood(
        bench.gram, method="lanczos", probes=32, lanczos_steps=40, **asked
    )
    estimated = bench.client.answer(job).summary
    assert 0 < estimated["standard_error"] < 0.1 * abs(exact["log_marginal_likelihood"])
    missed = abs(estimated["log_marginal_likelihood"] - exact["log_marginal_likelihood"])
    assert missed < 4 * estimated["standard_error"]
    assert estimated["fit"] == pytest.approx(exact["fit"], rel=1e-6)


def test_a_support_vector_machine_is_that_of_scikit_learn(bench: Bench) -> None:
    answer = bench.client.answer(bench.client.svm(bench.gram, cost=0.5, cross=bench.cross))
    theirs = SVC(kernel="precomputed", C=0.5).fit(bench.ntk, bench.labels)
    assert answer.summary["support_vectors"] == len(theirs.support_)
    assert answer.summary["training"]["accuracy"] == theirs.score(bench.ntk, bench.labels)
    agreement = np.mean(answer.arrays["labels"] == bench.test_labels)
    assert answer.summary["accuracy"] == pytest.approx(agreement)
    assert answer.arrays["dual"].shape == (TRAIN, 3)


def test_a_label_aware_gram_is_a_gram_to_solve_with(bench: Bench) -> None:
    asked = {"mixing": 0.4, "bandwidth": 0.3}
    answer = bench.client.answer(job := bench.client.label_kernel(bench.gram, **asked))
    same = (bench.labels[:, None] == bench.labels).astype(float)
    exact = label_kernel(bench.ntk, np.eye(CLASSES)[bench.labels], **asked)
    np.testing.assert_allclose(answer.arrays["ntk"], exact.matrix, rtol=1e-7)
    assert np.sum((answer.arrays["ntk"] - 0.6 * bench.ntk) * (same - same.mean())) > 0
    cross = finished(
        bench.client, bench.client.label_kernel(bench.gram, cross=bench.cross, **asked)
    )
    gram = finished(bench.client, job)
    assert bench.client.matrix(gram).kind == "gram"
    ridge = 1.0 + max(0.0, -answer.summary["smallest_eigenvalue"])
    solved = bench.client.answer(
        bench.client.solve(gram, ridge=ridge, ridge_relative=False, cross=cross)
    )
    assert solved.summary["outcome"] == "converged"
    assert solved.summary["accuracy"] > 0.5
    with pytest.raises(ApiError, match="another kernel"):
        bench.client.solve(gram, cross=bench.cross)
