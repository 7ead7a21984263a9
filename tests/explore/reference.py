"""Slow, plain versions of the statistics, written from their definitions."""

from __future__ import annotations

import math


def ks(x: list[float], v: list[float], y: list[float], w: list[float]) -> float:
    worst = 0.0
    for t in set(x) | set(y):
        f = math.fsum(b for a, b in zip(x, v, strict=True) if a <= t) / math.fsum(v)
        g = math.fsum(b for a, b in zip(y, w, strict=True) if a <= t) / math.fsum(w)
        worst = max(worst, abs(f - g))
    return worst


def auc(signal: list[float], v: list[float], background: list[float], w: list[float]) -> float:
    total = 0.0
    for a, p in zip(signal, v, strict=True):
        for b, q in zip(background, w, strict=True):
            total += p * q * (1.0 if a > b else 0.5 if a == b else 0.0)
    return total / math.fsum(v) / math.fsum(w)
