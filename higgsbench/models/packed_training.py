"""Train the members of a packed ensemble side by side with torch. Imported only where networks are trained."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from higgsbench.models.packed import PackedMLPClassifier

__all__ = ["train"]

WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""
LOWEST = 0.04
"""The learning rate at the beginning, relative to the highest."""
LEAST_STEPS = 20
"""Steps per epoch that a small jet group gets by smaller batches."""


def train(
    model: PackedMLPClassifier,
    X: NDArray[np.float32],
    truth: NDArray[np.float32],
    weight: NDArray[np.float32],
    seed: int,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Train all members on the weighted logistic loss.

    Args:
        model: the parameters.
        X: (n, p) standardised inputs.
        truth: (n,) 1 for signal, 0 for background.
        weight: (n,) training weights of mean 1.
        seed: seed of every random number.

    Returns:
        Per layer, weights (members, inputs, outputs) and biases (members, 1, outputs).
    """
    device = _device(model.device)
    with _processor(model.num_threads):
        generator = torch.Generator(device).manual_seed(seed)
        events = [torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in (X, truth, weight)]
        layers = _start(model, X.shape[1], generator)
        _run(model, layers, events, generator)
        return [(weights.detach().cpu().numpy(), bias.detach().cpu().numpy()) for weights, bias in layers]


def _device(wanted: str) -> str:
    if wanted == "cpu" or torch.cuda.is_available():
        return "cpu" if wanted == "cpu" else "cuda"
    if wanted == "cuda":
        _say_once("device 'cuda': torch finds no usable graphics card; networks are trained on the processor instead")
    return "cpu"


@functools.cache
def _say_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


@contextlib.contextmanager
def _processor(threads: int) -> Iterator[None]:
    """Give torch so many threads and flush denormal numbers to zero; both as before afterwards."""
    before = torch.get_num_threads()
    flushed = float(torch.tensor(1e-40) * 0.5) == 0.0
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # moments of units that rest decay into them, at a hundred times the cost
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)


def _start(model: PackedMLPClassifier, inputs: int, generator: Any) -> list[tuple[Any, Any]]:
    """Random weights (He et al., ICCV 2015; smaller for the output, so that all start near zero) and zero biases."""
    layers = []
    for width in (*model.hidden_layer_sizes, 1):
        scale = math.sqrt(2.0 / inputs) if width != 1 else 0.5 * math.sqrt(2.0 / inputs)
        shape = (model.members, inputs, width)
        weights = scale * torch.randn(shape, generator=generator, device=generator.device)
        bias = torch.zeros((model.members, 1, width), device=generator.device)
        layers.append((weights.requires_grad_(), bias.requires_grad_()))
        inputs = width
    return layers


def _run(model: PackedMLPClassifier, layers: list[tuple[Any, Any]], events: list[Any], generator: Any) -> None:
    X, truth, weight = events
    n = truth.shape[0]
    batch = min(model.batch_size, max(1, n // LEAST_STEPS))
    per_epoch = n // batch
    groups = [
        {"params": [weights for weights, _ in layers], "weight_decay": model.weight_decay},
        {"params": [bias for _, bias in layers], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=model.learning_rate, fused=True)
    for step in range(model.epochs * per_epoch):
        if step % per_epoch == 0:
            one_each = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(model.members)]
            order = torch.stack(one_each)
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate * _cycle(step / (model.epochs * per_epoch))
        rows = order[:, (step % per_epoch) * batch : (step % per_epoch + 1) * batch]
        log_odds = _forward(layers, X[rows], model.dropout, generator)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            log_odds, truth[rows], weight[rows], reduction="sum"
        )
        optimizer.zero_grad()
        (loss / batch).backward()
        optimizer.step()


def _cycle(progress: float) -> float:
    """Learning rate relative to its highest, a cosine up and a cosine down to zero."""
    if progress < WARM_UP:
        return LOWEST + (1.0 - LOWEST) * 0.5 * (1.0 - math.cos(math.pi * progress / WARM_UP))
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))


def _forward(layers: list[tuple[Any, Any]], x: Any, dropout: float, generator: Any) -> Any:
    """Log-odds (members, batch) of the members' own batches x (members, batch, p)."""
    for weights, bias in layers[:-1]:
        x = torch.nn.functional.silu(torch.baddbmm(bias, x, weights))
        dropped = round(256 * dropout)
        if dropped:
            x = x * _kept(x.shape, min(dropped, 255), generator)
    weights, bias = layers[-1]
    return torch.baddbmm(bias, x, weights)[..., 0]


def _kept(shape: Any, dropped: int, generator: Any) -> Any:
    """Dropout mask of mean 1; one random byte per unit, for random numbers would else be a fifth of the cost."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    kept = words.view(torch.uint8)[:count].view(shape) >= dropped
    return kept.float().mul_(256 / (256 - dropped))
