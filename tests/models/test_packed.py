"""The packed ensemble: training with torch, scoring without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import parametrize_with_checks

from higgsbench.metrics import roc_auc
from higgsbench.metrics.spectators import distance_correlation
from higgsbench.models.packed import CLIP, PackedMLPClassifier, _correlation

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"members": 3, "hidden_layer_sizes": [8, 6], "epochs": 4, "batch_size": 32}


def problem(n: int = 300, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)) * np.array([1.0, 10.0, 1e-3, 0.0]) + np.array([0.0, 50.0, 0.0, 7.0])
    y = X[:, 0] * (X[:, 1] - 50.0) / 10.0 + 0.3 * rng.normal(size=n) > 0.0
    return X.astype(np.float32), y.astype(np.int64)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="training needs the extra 'torch'")


@pytest.fixture(scope="module")
def fitted(torch: Any) -> PackedMLPClassifier:
    return PackedMLPClassifier(random_state=1, **SMALL).fit(*problem())


def untrained(members: int, sizes: list[int], inputs: int, seed: int) -> PackedMLPClassifier:
    """Random weights, no training: what needs no torch is tested without it."""
    rng = np.random.default_rng(seed)
    arrays = {"center": rng.normal(size=inputs), "scale": rng.uniform(0.5, 2.0, size=inputs)}
    for i, (a, b) in enumerate(zip([inputs, *sizes], [*sizes, 1], strict=True)):
        arrays |= {f"weights{i}": rng.normal(size=(members, a, b)), f"bias{i}": rng.normal(size=(members, 1, b))}
    params = {"members": members, "hidden_layer_sizes": sizes}
    as_stored = {name: values.astype(np.float32) for name, values in arrays.items()}
    return PackedMLPClassifier.from_state(as_stored, {"params": params, "classes": [0, 1]})


def one_by_one(model: PackedMLPClassifier, event: NDArray[np.float32]) -> float:
    """The score of one event, member by member and layer by layer, in double precision."""
    total = 0.0
    for member in range(model.members):
        values = np.clip((event.astype(float) - model.center_) / model.scale_, -CLIP, CLIP)
        for depth, (weights, bias) in enumerate(model.layers_):
            z = bias[member, 0] + values @ weights[member].astype(float)
            values = z if depth == len(model.layers_) - 1 else z / (1.0 + np.exp(-z))
        total += float(values[0])
    return total / model.members


@settings(max_examples=20)
@given(st.integers(1, 3), st.lists(st.integers(1, 5), max_size=3), st.integers(1, 4), st.integers(0, 99))
def test_scores_equal_those_of_a_plain_loop(members: int, sizes: list[int], inputs: int, seed: int) -> None:
    model = untrained(members, sizes, inputs, seed)
    X = (10.0 * np.random.default_rng(seed).normal(size=(3, inputs))).astype(np.float32)
    slow = [one_by_one(model, event) for event in X]
    np.testing.assert_allclose(model.decision_function(X), slow, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("part", ["weights1", "bias0", "center"])
def test_a_state_whose_arrays_do_not_fit_together_is_refused(part: str) -> None:
    arrays, parameters = untrained(2, [3], 4, 0).state()
    with pytest.raises(ValueError, match="do not fit together"):
        PackedMLPClassifier.from_state({**arrays, part: arrays[part][:1]}, parameters)


def test_blocks_of_events_do_not_show() -> None:
    model = untrained(2, [5], 3, 0)
    X = np.random.default_rng(1).normal(size=(5000, 3)).astype(np.float32)
    rows = [0, 2047, 2048, 4999]
    np.testing.assert_allclose(model.decision_function(X)[rows], model.decision_function(X[rows]), rtol=1e-5)


def test_training_and_scoring_compute_the_same_network(torch: Any, fitted: PackedMLPClassifier) -> None:
    from higgsbench.models.packed import _forward

    X = fitted._standardised(problem(seed=5)[0])
    layers = [(torch.from_numpy(weights), torch.from_numpy(bias)) for weights, bias in fitted.layers_]
    by_torch = _forward(layers, torch.from_numpy(X).expand(3, -1, -1), 0.0, None)
    np.testing.assert_allclose(fitted._member_log_odds(X), by_torch.numpy(), rtol=1e-4, atol=1e-5)


def test_it_learns_what_no_line_separates(torch: Any) -> None:
    how: dict[str, Any] = {"members": 2, "hidden_layer_sizes": [16], "epochs": 20, "learning_rate": 0.02}
    model = PackedMLPClassifier(random_state=0, **how).fit(*problem(600))
    X, y = problem(seed=9)
    assert roc_auc(y, model.decision_function(X), np.ones(y.size)).value > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.predict(X), (model.predict_proba(X)[:, 1] > 0.5).astype(int))


def test_same_seed_same_bits_and_members_differ(fitted: PackedMLPClassifier) -> None:
    X, y = problem()
    again = PackedMLPClassifier(random_state=1, **SMALL).fit(X, y)
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    other = PackedMLPClassifier(random_state=2, **SMALL).fit(X, y)
    assert np.abs(other.decision_function(X) - fitted.decision_function(X)).max() > 1e-3
    log_odds = fitted._member_log_odds(fitted._standardised(X))
    assert np.abs(log_odds[:, None] - log_odds[None]).max(axis=2)[~np.eye(3, dtype=bool)].min() > 1e-3


def numpy_state() -> str:
    return repr([part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state(legacy=True)])  # noqa: NPY002


def test_a_warm_start_goes_on_with_networks_and_scaling(fitted: PackedMLPClassifier) -> None:
    X, y = problem()
    arrays, parameters = fitted.state()
    on = PackedMLPClassifier.from_state(arrays, parameters)
    on.set_params(warm_start=True, epochs=1, learning_rate=1e-7).fit(X[:200] + 1.0, y[:200])
    np.testing.assert_allclose(on.decision_function(X), fitted.decision_function(X), atol=1e-3)
    assert not np.array_equal(on.layers_[0][0], fitted.layers_[0][0])
    assert np.array_equal(arrays["weights0"], fitted.layers_[0][0])  # the state it began with is untouched
    assert np.array_equal(on.center_, fitted.center_)


def test_settings_of_the_process_are_as_before(torch: Any) -> None:
    before, threads = (torch.get_rng_state(), numpy_state()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        PackedMLPClassifier(**{**SMALL, "random_state": None, "num_threads": 1}).fit(*problem())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert float(torch.tensor(1e-40) * 0.5) != 0.0, "denormals are flushed during the training only"
    assert torch.equal(torch.get_rng_state(), before[0])
    assert numpy_state() == before[1]


def test_weights_count_and_their_scale_does_not(fitted: PackedMLPClassifier) -> None:
    X, y = problem()
    scaled = PackedMLPClassifier(random_state=1, **SMALL).fit(X, y, np.full(y.size, 2.0**-10))
    np.testing.assert_array_equal(scaled.decision_function(X), fitted.decision_function(X))
    model = PackedMLPClassifier(random_state=1, **{**SMALL, "epochs": 30})
    more = model.fit(X, y, np.where(y == 1, 50.0, 1.0)).decision_function(X)
    assert np.median(more) - np.median(fitted.decision_function(X)) > 2.0


def test_an_event_of_no_weight_does_not_train(torch: Any) -> None:
    X, y = problem()
    wrong = y.copy()
    wrong[:40] = 1 - wrong[:40]
    w = np.where(np.arange(y.size) < 40, 0.0, 1.0)
    right = PackedMLPClassifier(random_state=1, **SMALL).fit(X, y, w)
    misled = PackedMLPClassifier(random_state=1, **SMALL).fit(X, wrong, w)
    np.testing.assert_array_equal(right.decision_function(X), misled.decision_function(X))


@pytest.mark.parametrize("n", [2, 3, 19, 21])
def test_a_handful_of_events_trains(torch: Any, n: int) -> None:
    X, _ = problem(n)
    y = np.arange(n) % 2
    assert np.isfinite(PackedMLPClassifier(random_state=0, **SMALL).fit(X, y).decision_function(X)).all()


def test_extreme_events_are_scored_like_the_last_known(fitted: PackedMLPClassifier) -> None:
    X, _ = problem()
    far, farther = X.copy(), X.copy()
    far[:, 1], farther[:, 1] = 1e4, 1e30
    np.testing.assert_array_equal(fitted.decision_function(far), fitted.decision_function(farther))


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Absent())
import numpy as np
from higgsbench.errors import MissingExtraError
from higgsbench.models.packed import PackedMLPClassifier

arrays = {"center": np.zeros(2), "scale": np.ones(2), "weights0": np.ones((1, 2, 1)), "bias0": np.ones((1, 1, 1))}
state = {"params": {"members": 1, "hidden_layer_sizes": []}, "classes": [0, 1]}
model = PackedMLPClassifier.from_state(arrays, state)
assert model.decision_function([[1.0, 2.0]]) == 4.0
try:
    model.fit([[0.0], [1.0]], [0, 1])
except MissingExtraError as error:
    print(error)
"""


def test_where_torch_is_absent_a_stored_model_scores_and_training_names_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("PackedMLPClassifier needs an optional dependency: pip install 'higgsbench[torch]'")


def test_without_a_card_cuda_falls_back_and_says_so_once(
    torch: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from higgsbench.models import packed

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    packed._say_once.cache_clear()
    X, y = problem()
    models = (PackedMLPClassifier(random_state=1, device=device, **SMALL) for device in ("cpu", "auto", "cuda", "cuda"))
    with caplog.at_level(logging.WARNING):
        scores = [model.fit(X, y).decision_function(X) for model in models]
    assert [r.getMessage() for r in caplog.records if "cuda" in r.getMessage()] == [
        "device 'cuda': torch finds no usable graphics card; networks use the processor instead"
    ]
    assert all(np.array_equal(score, scores[0]) for score in scores)


IMPOSSIBLE = [("members", 0), ("epochs", 1.5), ("batch_size", True), ("num_threads", -1), ("device", "gpu")]
SIZES, RATES = [96, [96, 0], "96"], [("learning_rate", 0.0), ("learning_rate", float("nan")), ("weight_decay", -1.0)]
SHARES = [("dropout", 1.0), ("dropout", -0.1), *(("hidden_layer_sizes", sizes) for sizes in SIZES)]


@pytest.mark.parametrize(("parameter", "value"), [*IMPOSSIBLE, *RATES, *SHARES])
def test_impossible_parameters_are_named(parameter: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{parameter} must"):
        PackedMLPClassifier(**{parameter: value}).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize("w", [[1.0, -1.0], [0.0, 0.0]])
def test_impossible_weights_are_refused(w: list[float]) -> None:
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
        PackedMLPClassifier().fit([[0.0], [1.0]], [0, 1], w)


def test_dropout_leaves_out_its_share_and_keeps_the_mean(torch: Any) -> None:
    from higgsbench.models.packed import _kept

    mask = _kept((3, 111, 97), 64, torch.Generator().manual_seed(0)).numpy()
    assert mask.shape == (3, 111, 97)
    assert set(np.unique(mask)) == {0.0, np.float32(256 / 192)}
    assert abs((mask == 0.0).mean() - 0.25) < 0.01
    assert np.abs(np.corrcoef(mask.reshape(3, -1))[~np.eye(3, dtype=bool)]).max() < 0.04


def test_the_learning_rate_rises_and_falls_once() -> None:
    from higgsbench.models.packed import LOWEST, _cycle

    rates = [_cycle(t) for t in np.linspace(0.0, 1.0, 101)]
    assert (rates[0], rates[-1], max(rates)) == pytest.approx((LOWEST, 0.0, 1.0))
    assert int(np.sum(np.diff(np.sign(np.diff(rates))) != 0)) == 1


TINY: dict[str, Any] = {"members": 1, "hidden_layer_sizes": [8], "epochs": 6, "batch_size": 16, "learning_rate": 0.05}
FAIL = {"check_sample_weight_equivalence_on_dense_data": "a weight of two is not the event drawn twice into batches"}


@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    [PackedMLPClassifier(random_state=0, **TINY)], expected_failed_checks=lambda estimator: FAIL
)
@pytest.mark.filterwarnings("default")  # the checks provoke scikit-learn's own warnings
def test_scikit_learn_rules(torch: Any, estimator: Any, check: Any) -> None:
    if "check_methods_subset_invariance" in repr(check):
        # Wanted to 1e-7, which the processor's kernels decide; test_blocks_of_events_do_not_show allows for float32.
        pytest.skip("float32 products of one row may round differently from those of many")
    check(estimator)


def test_the_penalty_is_the_squared_distance_correlation_of_the_background(torch: Any) -> None:
    rng = np.random.default_rng(3)
    score, spectator, weight = rng.normal(size=(3, 2, 40)).astype(np.float32)
    spectator = spectator + score**2
    found = _correlation(*(torch.from_numpy(values) for values in (score, spectator, np.abs(weight))))
    for member in range(2):
        expected = distance_correlation(score[member], spectator[member], np.abs(weight[member])).value ** 2
        assert float(found[member]) == pytest.approx(expected, rel=1e-3)


def test_a_decorrelated_fit_ignores_missing_spectators_and_is_stored(torch: Any) -> None:
    X, _ = problem(600)
    spectator = X[:, 0].copy()
    y = (spectator + 0.5 * np.random.default_rng(0).normal(size=600) > 0.0).astype(np.int64)
    spectator[::7] = np.nan
    model = PackedMLPClassifier(random_state=1, decorrelation=5.0, **SMALL).fit(X, y, spectator=spectator)
    plain = PackedMLPClassifier(random_state=1, **SMALL).fit(X, y, spectator=spectator)
    used = (y == 0) & np.isfinite(spectator)
    free, bound = (
        distance_correlation(m.decision_function(X)[used], spectator[used], np.ones(used.sum())).value
        for m in (model, plain)
    )
    assert free < 0.4 * bound
    again = PackedMLPClassifier.from_state(*model.state())
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    with pytest.raises(ValueError, match="decorrelation needs a spectator"):
        PackedMLPClassifier(decorrelation=1.0, **SMALL).fit(X, y)
