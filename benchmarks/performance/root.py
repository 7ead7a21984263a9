"""Reading ROOT files: `EventStream` against bare `uproot.iterate` of the same branches, and its memory."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import uproot

from benchmarks.performance.measuring import (
    Figures,
    Verdict,
    in_process_in_turn,
    ratio,
    stored_with_peaks,
    summary,
    watched_command,
)
from higgsbench.events import EventStream
from higgsbench.events.samples import Sample
from higgsbench.schema import TableSchema

ROOT = {"events": 1_000_000, "fewer": 250_000, "rounds": 7}
BOUND = 1.3
COMPRESSIONS = {"zlib": uproot.ZLIB(1), "LZ4": uproot.LZ4(4)}
"""LZ4 unpacks so fast that everything else which a reader does shows."""

_SCALARS, _VECTORS = [f"x{i}" for i in range(86)], [f"v{i}" for i in range(30)]
_NUMBERS = {"run": np.uint32, "event": np.uint64, "n_jets": np.int32, "weight": np.float32}
_READ, _READ_VECTORS = _SCALARS[:28], _VECTORS[:8]
BRANCHES = [*_READ, *_READ_VECTORS, *_NUMBERS]
"""The 40 branches that are read."""

LAYOUT = TableSchema(
    "samples",
    features=(*_READ, *(f"{name}_0" for name in _READ_VECTORS)),
    label="Label",
    weight="Weight",
    event_id="EventId",
    group="n_jets",
    integers=frozenset({"n_jets"}),
    ignore_unknown=True,
    process="Process",
    derived={"Weight": "weight * 2", "Fold": "event % 5", **{f"{name}_0": f"{name}[0]" for name in _READ_VECTORS}},
    select="x0 > 0",
    ids=("run", "event"),
    fold="Fold",
)
SAMPLE = Sample("made up", constants={"Label": "s", "Process": "made up"})


def write(events: int, folder: Path, compression: str = "zlib") -> Path:
    """Write a tree of 120 branches, 30 of them vectors; return the file."""
    file, rng, step = folder / f"events-{events}-{compression}.root", np.random.default_rng(1), 50_000
    kinds = {**{name: np.dtype(np.float32) for name in _SCALARS}, **{n: np.dtype(k) for n, k in _NUMBERS.items()}}
    with uproot.recreate(file, compression=COMPRESSIONS[compression]) as content:
        content.mktree("nominal", {**kinds, **dict.fromkeys(_VECTORS, "var * float32")})
        for first in range(0, events, step):
            count = min(step, events - first)
            jets = rng.integers(0, 6, count)
            columns: dict[str, Any] = {name: rng.normal(50, 20, count).astype(np.float32) for name in _SCALARS}
            columns |= {"run": np.full(count, 7, np.uint32), "n_jets": jets.astype(np.int32)}
            columns |= {"event": np.arange(first, first + count, dtype=np.uint64)}
            columns |= {"weight": rng.uniform(0.5, 1.5, count).astype(np.float32)}
            for name in _VECTORS:
                columns[name] = awkward.unflatten(rng.normal(50, 20, jets.sum()).astype(np.float32), jets)
            content["nominal"].extend(columns)
    return file


def read(file: Path) -> int:
    """Read, select, compute and check the events of a file; return their number."""
    return sum(frame.height for frame in EventStream(f"{file}:nominal", LAYOUT, sample=SAMPLE).batches())


def bare(file: Path) -> int:
    """Iterate over the same branches, with the step that uproot chooses; return the number of events."""
    return sum(len(part) for part in uproot.iterate({str(file): "nominal"}, BRANCHES))


def measure_root(figures: Figures, folder: Path) -> None:
    """Time both alternately, after one round that is not counted; then watch the memory for two sizes."""
    files = {name: write(ROOT["events"], folder, name) for name in COMPRESSIONS}
    calls = {f"higgsbench, {name}": functools.partial(read, file) for name, file in files.items()}
    calls |= {f"uproot, {name}": functools.partial(bare, file) for name, file in files.items()}
    in_process_in_turn(calls, ROOT["rounds"], figures.content.setdefault("times", {}), figures.keep)
    for name, path in (("fewer", write(ROOT["fewer"], folder)), ("events", files["zlib"])):
        cost, watched = watched_command(["-m", "benchmarks.performance.root", str(path)], folder)
        figures.content[name] = stored_with_peaks(cost, watched)


def report_root(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report the ratios to uproot, and the peaks."""
    lines = [
        f"{ROOT['events']:,} events, {len(BRANCHES)} of 120 branches ({len(_READ_VECTORS)} of them vectors). "
        "higgsbench also selects, takes elements of vectors, numbers events and checks values.",
        "",
        "| compression | higgsbench | bare `uproot.iterate` | wall-time ratio | CPU-time ratio |",
        "|---|---|---|---|---|",
    ]
    verdicts = []
    for name in COMPRESSIONS:
        ours, theirs = content["times"][f"higgsbench, {name}"], content["times"][f"uproot, {name}"]
        wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
        lines.append(f"| {name} | {summary(ours, 2)} | {summary(theirs, 2)} | {wall} | {cpu} |")
        verdicts.append(Verdict(f"reading ({name}), over bare uproot", wall.median, BOUND, cpu=cpu.median))
    lines += [
        "",
        f"Peak memory of the reading process: {content['fewer']['total'] / 1e6:.0f} MB for {ROOT['fewer']:,} events, "
        f"{content['events']['total'] / 1e6:.0f} MB for {ROOT['events']:,}.",
    ]
    growth = content["events"]["total"] / content["fewer"]["total"]
    return lines, [*verdicts, Verdict("peak memory of four times as many events, over that of one time", growth, 1.25)]


if __name__ == "__main__":
    read(Path(sys.argv[1]))
