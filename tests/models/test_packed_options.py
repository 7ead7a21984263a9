"""Options of the packed ensemble: dense connections, shared matrices, turned and mirrored events."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.errors import ModelError
from higgsbench.features import resolve_features
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator
from higgsbench.models.packed import PackedMLPClassifier
from higgsbench.models.packed_symmetry import symmetry_of
from higgsbench.schema import ATLAS_HIGGS

NAMES = ("tau_lx", "lep_lx", "lep_ly", "met_lx", "met_ly", "tau_eta_in", "lep_eta_in", "log_mass")
SMALL: dict[str, Any] = {"members": 3, "hidden_layer_sizes": [8, 6], "epochs": 6, "batch_size": 32, "random_state": 1}
OPTIONS: list[dict[str, Any]] = [
    {"connections": "dense"},
    {"sharing": "tabm"},
    {"augment": "flip", "inputs": NAMES},
    {"augment": "rotate", "inputs": NAMES},
    {"connections": "dense", "sharing": "tabm", "augment": "rotate", "inputs": NAMES},
]
IDS = ["dense", "shared", "flip", "rotate", "all"]


def events(n: int = 300, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors, pseudorapidities, an invariant and the flag of an imputation; the truth knows no direction."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 9)).astype(np.float32) * 2.0
    X[:, 0] = np.abs(X[:, 0])
    X[:, 8] = rng.random(n) < 0.2
    y = X[:, 1] * X[:, 3] + X[:, 2] * X[:, 4] + X[:, 5] * X[:, 6] + X[:, 8] > 0.0
    return X, y.astype(np.int64)


def moved(X: NDArray[np.float32], angle: float, plane: int, axis: int) -> NDArray[np.float32]:
    """Slow reference: one event after the other, one vector after the other; the tau's second component comes last."""
    out = np.column_stack([X, np.zeros(len(X), np.float32)]).astype(np.float64)
    for event in out:
        for first, second in ((0, 9), (1, 2), (3, 4)):
            x, y = event[first], event[second]
            event[first] = x * math.cos(angle) - y * math.sin(angle)
            event[second] = plane * (x * math.sin(angle) + y * math.cos(angle))
        event[[5, 6]] *= axis
    return out.astype(np.float32)


@pytest.fixture(scope="module", params=OPTIONS, ids=IDS)
def model(request: pytest.FixtureRequest) -> PackedMLPClassifier:
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    return PackedMLPClassifier(**SMALL, **request.param).fit(*events())


def test_same_seed_same_bits_and_members_differ(model: PackedMLPClassifier) -> None:
    X, y = events()
    again = PackedMLPClassifier(**model.get_params()).fit(X, y)
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    log_odds = model._member_log_odds(model._standardised(X))
    assert np.abs(log_odds[:, None] - log_odds[None]).max(axis=2)[~np.eye(3, dtype=bool)].min() > 1e-3


def test_it_comes_back_from_its_state(model: PackedMLPClassifier) -> None:
    X, _ = events(seed=2)
    arrays, parameters = model.state()
    again = PackedMLPClassifier.from_state(arrays, json.loads(json.dumps(parameters)))
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    assert again.n_features_in_ == 9
    arrays["weights1"] = arrays["weights1"][:, 1:]
    with pytest.raises(ModelError, match="shapes of the arrays"):
        PackedMLPClassifier.from_state(arrays, parameters)


def test_training_and_scoring_compute_the_same_network(model: PackedMLPClassifier) -> None:
    import torch

    from higgsbench.models.packed_training import _forward

    X = model._standardised(events(seed=5)[0])
    layers = [(torch.from_numpy(weights), torch.from_numpy(bias)) for weights, bias in model.layers_]
    by_torch = _forward(layers, torch.from_numpy(X).expand(3, -1, -1), 0.0, None, model.connections == "dense")
    np.testing.assert_allclose(model._member_log_odds(X), by_torch.numpy(), rtol=1e-4, atol=1e-5)


def test_shared_matrices_are_one_matrix_with_factors() -> None:
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    model = PackedMLPClassifier(**SMALL, sharing="tabm").fit(*events())
    for weights, _ in model.layers_[:-1]:
        for member in (1, 2):
            ratio = weights[member].astype(np.float64) / weights[0]
            np.testing.assert_allclose(ratio * ratio[0, 0], np.outer(ratio[:, 0], ratio[0]), rtol=1e-3)


@pytest.mark.parametrize("augment", ["flip", "rotate"])
def test_orientations_are_those_of_a_plain_loop(augment: str) -> None:
    symmetry = symmetry_of(augment, NAMES, 9)
    assert symmetry is not None
    X = events(20)[0]
    expanded = symmetry.expanded(X)
    views = symmetry.views(8)
    assert len(set(views)) == (8 if augment == "rotate" else 4)
    assert {view[1:] for view in views} == {(a, b) for a in (1.0, -1.0) for b in (1.0, -1.0)}
    for angle, plane, axis in views:
        slow = moved(X, angle, int(plane), int(axis))[:, : expanded.shape[1]]
        np.testing.assert_allclose(symmetry.seen(expanded, (angle, plane, axis)), slow, atol=1e-5)


def test_training_turns_and_mirrors_each_event_as_a_whole() -> None:
    torch = pytest.importorskip("torch", reason="training needs the extra 'torch'")
    from higgsbench.models.packed_training import _turned

    symmetry = symmetry_of("rotate", NAMES, 9)
    assert symmetry is not None
    X = symmetry.expanded(events(400)[0])
    seen = _turned(torch.from_numpy(X)[None].repeat(2, 1, 1), symmetry, torch.Generator().manual_seed(0)).numpy()
    assert not np.array_equal(seen[0], seen[1])
    for member in seen:
        angle = np.arctan2(member[:, 9], member[:, 0])
        plane = np.sign(member[:, 1] * np.sin(angle) - member[:, 2] * np.cos(angle)) * -np.sign(X[:, 2])
        axis = np.sign(member[:, 5]) * np.sign(X[:, 5])
        for event in range(0, 400, 7):
            # The tau's angle has the mirror in it already.
            turn = angle[event] * plane[event]
            slow = moved(X[event : event + 1, :9], turn, int(plane[event]), int(axis[event]))
            np.testing.assert_allclose(member[event], slow[0], atol=1e-4)
        assert abs(np.mean(plane)) < 0.2
        assert abs(np.mean(axis)) < 0.2
        assert abs(np.mean(np.exp(1j * angle))) < 0.2


def test_standardisation_does_not_depend_on_the_orientation() -> None:
    symmetry = symmetry_of("rotate", NAMES, 9)
    assert symmetry is not None
    X = events(200)[0]
    views = [(math.tau * k / 12, plane, axis) for k in range(12) for plane in (1, -1) for axis in (1, -1)]
    many = np.concatenate([moved(X, *view) for view in views])
    expanded = symmetry.expanded(X)
    center, scale = symmetry.moments(expanded, expanded.mean(axis=0), expanded.std(axis=0))
    np.testing.assert_allclose(center, many.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(scale, many.std(axis=0), rtol=1e-4)
    assert scale[0] == scale[9]
    assert scale[1] == scale[2]


def test_many_orientations_make_a_score_that_hardly_knows_its_own() -> None:
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    X, y = events()
    mirrored = X.copy()
    mirrored[:, [5, 6]] *= -1.0
    model = PackedMLPClassifier(**SMALL, augment="flip", inputs=NAMES).fit(X, y)
    np.testing.assert_allclose(model.decision_function(mirrored), model.decision_function(X), atol=1e-5)
    one_view = model.set_params(views=1)
    assert np.abs(one_view.decision_function(mirrored) - one_view.decision_function(X)).max() > 1e-2


@pytest.mark.parametrize(
    "names", [(), ("DER_mass_vis",), ("tau_lx", "tau_eta_in"), (*NAMES, "more", "than", "columns")]
)
def test_columns_without_vectors_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="augment 'rotate' needs momentum vectors"):
        symmetry_of("rotate", names, 9)


def test_the_feature_set_momenta_has_all_vectors() -> None:
    columns = resolve_features(ATLAS_HIGGS, name="momenta").columns
    symmetry = symmetry_of("rotate", columns, len(columns) + 1)
    assert symmetry is not None
    assert [columns[c] for c in symmetry.along] == [f"{m}_lx" for m in ("tau", "lep", "met", "jet1", "jet2")]
    assert symmetry.across[0] == len(columns) + 1
    assert [columns[c] for c in symmetry.odd] == [f"{m}_eta_in" for m in ("tau", "lep", "jet1", "jet2")]


def test_the_builder_hands_the_names_over_but_not_to_submodels_of_jet_groups() -> None:
    spec = get_model("torch_mlp")
    assert "inputs" not in (spec.parameters or frozenset)()
    built = build_estimator(spec, {"augment": "flip"}, BuildContext(1, 1, NAMES))
    assert built[-1].inputs == NAMES
    with pytest.raises(ModelError, match="one model for all jet numbers"):
        build_estimator(spec, {"augment": "flip"}, BuildContext(1, 1, NAMES, split=True))
