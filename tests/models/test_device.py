"""Where a model is trained is settled before anything is trained, and said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from higgsbench.models import building as device
from higgsbench.models import get_model


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    device.unusable.cache_clear()
    yield
    device.unusable.cache_clear()


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver names two cards, and on which every trial fit succeeds."""
    monkeypatch.setattr(device, "cuda_devices", lambda: 2)
    answer(monkeypatch, "usable\n")


def answer(monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> list[list[str]]:
    """Answer in place of the process of the trial fit; return the list of what was asked."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-2:])
        return subprocess.CompletedProcess(command, code, text, "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


GIVEN: list[tuple[str, dict[str, Any]]] = [
    *((name, {"device": "cuda"}) for name in ("xgboost", "catboost", "torch_mlp")),
    *(("xgboost", {"device": "cuda:1"}), ("catboost", {"task_type": "GPU"}), ("lightgbm", {"device_type": "cuda"})),
]


@pytest.mark.parametrize(("name", "params"), GIVEN)
@pytest.mark.usefixtures("cards")
def test_a_card_is_used_where_there_is_one_and_otherwise_the_processor_with_a_word(
    name: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.on_device(get_model(name), params, None) == (params, "")
    monkeypatch.setattr(device, "cuda_devices", lambda: 0)
    device.unusable.cache_clear()
    found = device.on_device(get_model(name), {**params, "learning_rate": 0.1}, None)
    assert found == ({"learning_rate": 0.1}, f"{name}: no usable CUDA device; trained on the processor")


@pytest.mark.usefixtures("cards")
def test_device_of_the_run() -> None:
    for name in ("xgboost", "catboost", "lightgbm", "torch_mlp"):
        assert device.on_device(get_model(name), {}, "cuda") == ({"device": "cuda"}, "")
        assert device.on_device(get_model(name), {"device": "cpu"}, "cuda") == ({"device": "cpu"}, "")
        assert device.on_device(get_model(name), {}, "cpu") == ({}, "")
        assert device.on_device(get_model(name), {}, None) == ({}, "")
    assert device.on_device(get_model("mlp"), {}, "cuda") == ({}, "mlp: runs on the processor only; trained there")


@pytest.mark.parametrize(("cards", "found"), [(0, {}), (1, {"device": "cuda"})])
def test_automatic_choice_of_the_networks(monkeypatch: pytest.MonkeyPatch, cards: int, found: dict[str, str]) -> None:
    monkeypatch.setattr(device, "cuda_devices", lambda: cards)
    answer(monkeypatch, "usable\n")
    assert device.on_device(get_model("torch_mlp"), {"device": "auto"}, None) == (found, "")


def test_a_library_without_it_is_found_by_a_trial_fit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_devices", lambda: 1)
    asked = answer(monkeypatch, "chatter\nreason: CUDA Tree Learner was not enabled in this build.\n")
    for _ in range(2):
        note = "lightgbm: CUDA Tree Learner was not enabled in this build.; trained on the processor"
        assert device.on_device(get_model("lightgbm"), {}, "cuda") == ({}, note)
    assert asked == [["lightgbm", '{"device": "cuda"}']]


def test_a_trial_fit_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_devices", lambda: 1)
    answer(monkeypatch, "", code=-11)
    _, note = device.on_device(get_model("xgboost"), {}, "cuda")
    assert note == "xgboost: the trial fit ended with code -11; trained on the processor"
    monkeypatch.setattr(subprocess, "run", Mock(side_effect=subprocess.TimeoutExpired("python", 1.0)))
    _, note = device.on_device(get_model("lightgbm"), {}, "cuda")
    assert note == "lightgbm: a trial fit failed: TimeoutExpired; trained on the processor"


@pytest.mark.parametrize(
    ("name", "where", "answered"),
    [("xgboost", "cpu", "usable"), *((name, "cuda", "reason: ") for name in ("xgboost", "lightgbm", "catboost"))],
)
def test_real_trial_fits_of_this_machine(
    name: str, where: str, answered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "cuda" and device.cuda_devices():
        pytest.skip("this machine has a graphics card")
    monkeypatch.setattr(sys, "argv", ["probe", name, f'{{"device": "{where}"}}'])
    device.probe()
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith(answered)
