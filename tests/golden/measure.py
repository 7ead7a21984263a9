"""What the golden files hold, measured through the public interface only.

`python -m tests.golden.measure NAME FILE` writes the golden file of one case. The files in this folder were written
before the package was reorganised; write one anew only where a number is meant to change, and say so in the changelog.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from click.testing import CliRunner
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

import higgsbench
from higgsbench.cli.main import cli

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"
PACKAGES = ("catboost", "lightgbm", "numpy", "polars", "scikit-learn", "scipy", "xgboost")
NUMBERS = (
    "ams_cv", "ams_cv_se", "ams_oof_max", "ams_oof_max_se", "ams_test", "ams_test_se", "ams_public", "ams_private",
    "auc", "auc_se", "auc_test", "log_loss", "log_loss_se", "s", "b", "fraction", "cut_fraction", "threshold",
)  # fmt: skip
LATER = ("processes", "efficiencies", "fit")  # keys of the commands' output that are not in the golden files
EXACT = ("xgboost", "lightgbm", "catboost", "mlp")
DIGITS = 9


@dataclass(frozen=True)
class Case:
    """A run that is pinned."""

    config: str
    settings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # models that are kept; all when empty
    sample: bool = False  # on the sample of real events instead of simulated ones
    commands: bool = False  # whether the output of the commands over the stored run is pinned too


CASES = {
    "quick-toy": Case("quick.yaml", ("data.events=6000",)),
    "exact-toy": Case("quick.yaml", ("data.events=6000", "jet_split=both"), EXACT, commands=True),
    "all-toy": Case("all.yaml", ("data.events=6000",)),
    "best-toy": Case("best.yaml", ("data.events=3000",)),
    "quick-sample": Case("quick.yaml", sample=True),
    "all-sample": Case("all.yaml", sample=True),
    "best-sample": Case("best.yaml", sample=True, commands=True),
}


def versions() -> dict[str, str]:
    """What a digest of floats depends on besides the code."""
    blas = sorted({str(info.get("architecture", "")) for info in threadpool_info() if info["user_api"] == "blas"})
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": f"{platform.system()} {platform.machine()} {' '.join(blas)}",
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def digest(values: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def pinned(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the digest of some scores, and a few of them."""
    values = np.asarray(values, dtype=np.float64)
    return {"digest": digest(values), "n": values.size, "some": values[:: max(values.size // 5, 1)].tolist()}


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Carry out a case in an empty folder and return its numbers."""
    result = higgsbench.run(
        ROOT / "configs" / case.config,
        data=SAMPLE if case.sample else None,
        only=case.only,
        settings=case.settings,
        output=folder / "results",
    )
    out: dict[str, Any] = {"versions": versions(), "rows": {}}
    for row in result.rows:
        out["rows"][row["name"]] = {name: row[name] for name in NUMBERS if row.get(name) is not None}
    out["stack"] = json.loads((result.folder / "stack.json").read_text(encoding="utf-8"))
    out["stack"].pop("seal", None)
    for kind in ("scores", "test_scores"):
        file = result.folder / f"{kind}.parquet"
        if file.exists():
            out[kind] = _scores(pl.read_parquet(file))
    new = folder / "new.csv"
    told(["data", "simulate", "--events", "1500", "--seed", "7", "-o", str(new)])
    out["new_events"] = hashlib.sha256(new.read_bytes()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # simulated events of any seed share their numbers
        predicted = higgsbench.predict(result.folder, new, out_of_fold="never").sort("EventId")
        submitted = higgsbench.submission(result.folder, new).sort("EventId")
    out["predictions"] = pinned(predicted["score"].to_numpy()) | {"selected": int(predicted["selected"].sum())}
    out["submission"] = hashlib.sha256(submitted.write_csv().encode()).hexdigest()
    if case.commands:
        out["commands"] = _commands(result.folder, new)
    return out


def told(arguments: list[str]) -> str:
    """Run a command in this process and return its standard output."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _scores(table: pl.DataFrame) -> dict[str, Any]:
    keys = ["EventId"] + (["repeat"] if "repeat" in table.columns else [])
    table = table.sort(keys)
    out: dict[str, Any] = {"events": digest(table["EventId"].cast(pl.Int64).to_numpy())}
    if "fold" in table.columns:
        out["folds"] = digest(table["fold"].cast(pl.Int64).to_numpy())
    for name in table.columns:
        if name.startswith("score:"):
            out[name.removeprefix("score:")] = pinned(table[name].cast(pl.Float64).to_numpy())
    return out


def _commands(run: Path, new: Path) -> dict[str, Any]:
    def content(*arguments: str) -> Any:
        text = told([*arguments, "--format", "json"])
        return json.loads(text, object_hook=lambda found: {k: v for k, v in found.items() if k not in LATER})

    explored = content("explore", str(new))
    explored.pop("source")
    return {
        "compare": summary(content("compare", str(run))),
        "stats": summary(content("stats", str(run), "--sigma-b", "0.05")),
        "members": summary(content("members", str(run))),
        "explore": {key: summary(value) for key, value in explored.items()},
    }


def summary(content: Any) -> dict[str, Any]:
    """Digest of a JSON value with its numbers rounded to nine significant digits, and some of the numbers in full."""
    numbers = list(leaves(content))
    text = json.dumps(rounded(content), sort_keys=True).encode()
    some = numbers[:: max(len(numbers) // 12, 1)]
    return {"digest": hashlib.sha256(text).hexdigest(), "n": len(numbers), "some": some}


def leaves(content: Any) -> Any:
    """Yield all numbers of a JSON value, keys in order."""
    if isinstance(content, dict):
        for key in sorted(content):
            yield from leaves(content[key])
    elif isinstance(content, list):
        for item in content:
            yield from leaves(item)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield content


def rounded(content: Any) -> Any:
    """Return a JSON value with floats of nine significant digits and at most twelve decimals, and without its texts."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(item) for item in content]
    if isinstance(content, str):
        return ""  # sentences may be reworded
    return f"{round(content, 12) + 0.0:.{DIGITS}g}" if isinstance(content, float) else content


def main(name: str, file: str) -> None:
    """Write the golden file of one case."""
    with tempfile.TemporaryDirectory() as folder:
        content = measure(CASES[name], Path(folder))
    Path(file).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
