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
    from higgsbench.models.packed_symmetry import Symmetry

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
        network = Network(model, generator)
        _run(model, network, events, generator)
        return [(weights.detach().cpu().numpy(), bias.detach().cpu().numpy()) for weights, bias in network.layers()]


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


class Network:
    """The numbers that are trained.

    Random weights (He et al., ICCV 2015; smaller for the output, so that all start near zero) and zero biases. Where
    the members share the matrices of the hidden layers, each has factors of its own for their inputs and outputs: 1,
    and random signs for the inputs of the first layer, which make the members differ from the start.

    Args:
        model: the parameters and, by its standardisation, the number of inputs.
        generator: random numbers on the device of the training.

    Attributes:
        matrices: per layer, (members, inputs, outputs), or (1, inputs, outputs) where they are shared.
        biases: per layer, (members, 1, outputs).
        factors: per layer with a shared matrix, (members, inputs, 1) and (members, 1, outputs).
    """

    def __init__(self, model: PackedMLPClassifier, generator: Any) -> None:
        self.matrices: list[Any] = []
        self.biases: list[Any] = []
        self.factors: list[tuple[Any, Any]] = []
        where = {"device": generator.device}
        hidden = len(model.hidden_layer_sizes)
        for number, (inputs, outputs) in enumerate(model.layer_shapes()):
            shared = model.sharing == "tabm" and number < hidden
            scale = math.sqrt(2.0 / inputs) if number < hidden else 0.5 * math.sqrt(2.0 / inputs)
            shape = (1 if shared else model.members, inputs, outputs)
            self.matrices.append((scale * torch.randn(shape, generator=generator, **where)).requires_grad_())
            self.biases.append(torch.zeros((model.members, 1, outputs), **where).requires_grad_())
            if shared:
                entering = torch.ones((model.members, inputs, 1), **where)
                if number == 0:
                    entering = 2.0 * torch.randint(2, entering.shape, generator=generator, **where) - 1.0
                leaving = torch.ones((model.members, 1, outputs), **where)
                self.factors.append((entering.requires_grad_(), leaving.requires_grad_()))

    def layers(self) -> list[tuple[Any, Any]]:
        """Per layer, the members' weights (members, inputs, outputs), factors multiplied out, and biases."""
        weights = list(self.matrices)
        for number, (entering, leaving) in enumerate(self.factors):
            weights[number] = entering * weights[number] * leaving
        return list(zip(weights, self.biases, strict=True))

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for the optimiser; only the matrices decay."""
        free = [*self.biases, *(factor for pair in self.factors for factor in pair)]
        return [{"params": self.matrices, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _run(model: PackedMLPClassifier, network: Network, events: list[Any], generator: Any) -> None:
    X, truth, weight = events
    symmetry, dense = model.symmetry, model.connections == "dense"
    n = truth.shape[0]
    batch = min(model.batch_size, max(1, n // LEAST_STEPS))
    per_epoch = n // batch
    optimizer = torch.optim.AdamW(network.groups(model.weight_decay), lr=model.learning_rate, fused=True)
    for step in range(model.epochs * per_epoch):
        if step % per_epoch == 0:
            one_each = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(model.members)]
            order = torch.stack(one_each)
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate * _cycle(step / (model.epochs * per_epoch))
        rows = order[:, (step % per_epoch) * batch : (step % per_epoch + 1) * batch]
        seen = X[rows] if symmetry is None else _turned(X[rows], symmetry, generator)
        log_odds = _forward(network.layers(), seen, model.dropout, generator, dense)
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


def _forward(layers: list[tuple[Any, Any]], x: Any, dropout: float, generator: Any, dense: bool = False) -> Any:
    """Log-odds (members, batch) of the members' own batches x (members, batch, p)."""
    for weights, bias in layers[:-1]:
        units = torch.nn.functional.silu(torch.baddbmm(bias, x, weights))
        dropped = round(256 * dropout)
        if dropped:
            units = units * _kept(units.shape, min(dropped, 255), generator)
        x = torch.cat([x, units], dim=2) if dense else units
    weights, bias = layers[-1]
    return torch.baddbmm(bias, x, weights)[..., 0]


def _turned(x: Any, symmetry: Symmetry, generator: Any) -> Any:
    """Turn and mirror each event of x (members, batch, p), standardised, at random and in place."""
    shape, where = (*x.shape[:2], 1), {"generator": generator, "device": generator.device}
    along, across, odd = list(symmetry.along), list(symmetry.across), list(symmetry.odd)
    if along:
        angle = 2.0 * math.pi * torch.rand(shape, **where)
        c, s, first, second = torch.cos(angle), torch.sin(angle), x[..., along], x[..., across]
        x[..., along] = c * first - s * second
        x[..., across] = s * first + c * second
    for columns in (across, odd):
        x[..., columns] *= 2.0 * torch.randint(2, shape, **where) - 1.0
    return x


def _kept(shape: Any, dropped: int, generator: Any) -> Any:
    """Dropout mask of mean 1; one random byte per unit, for random numbers would else be a fifth of the cost."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    kept = words.view(torch.uint8)[:count].view(shape) >= dropped
    return kept.float().mul_(256 / (256 - dropped))
