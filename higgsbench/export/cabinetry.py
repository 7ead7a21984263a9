"""Write the statistical model of a row for cabinetry: its configuration, and a file of NumPy arrays per histogram.

Format: A. Held, M. Feickert, cabinetry, github.com/scikit-hep/cabinetry (schema of the configuration, and
`Histogram.save`). cabinetry divides a change into a normsys and a histosys, so its interpolation between shifts differs
slightly from that of `higgsbench stats --workspace`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.config.document import yaml_text
from higgsbench.errors import ConfigError, StoreError
from higgsbench.files import check_folder_of, temporary_path, told_plainly, write_text
from higgsbench.inference.interval import built_models
from higgsbench.inference.workspace import POI
from higgsbench.runs import find_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.inference.regions import RowModel
    from higgsbench.runs import RunResult
    from higgsbench.runs.stored import StoredRun

_DATA = "Asimov"


def export_cabinetry(
    run: str | Path | StoredRun | RunResult,
    output: str | Path,
    *,
    model: str,
    regions: str | Path | None = None,
    results: str | Path = "results",
) -> Path:
    """Write the regions of a run as a configuration and histograms for cabinetry; the data are Asimov data.

    Args:
        run: the run, whose configuration has `regions`.
        output: folder to write, which does not exist yet or is empty; run cabinetry in it.
        model: row whose scores the regions use, by name or label.
        regions: configuration whose regions and systematics are used instead of the run's.
        results: folder that holds runs.

    Returns:
        The folder, with `config.yml` and the folder `histograms`.

    Raises:
        ConfigError: if there are no regions, or the model stands for several rows.
        StoreError: if the folder exists or cannot be written.

    Example:
        >>> higgsbench.export_cabinetry("latest", "fit", model="stack")  # doctest: +SKIP
        PosixPath('fit')
    """
    target = Path(output).expanduser()
    check_folder_of(target, StoreError)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise StoreError(f"{target}: already exists; choose a new folder")
    _, built, _ = built_models(find_run(run, results), [model], None if regions is None else Path(regions))
    if len(built) > 1:
        raise ConfigError(f"--model {model}: several rows have this label; choose from {', '.join(built)}")
    (found,) = built.values()
    folder = temporary_path(target)
    try:
        with told_plainly(StoreError, target):
            (folder / "histograms").mkdir(parents=True)
            for name, (contents, errors) in _histograms(found).items():
                edges = np.arange(contents.size + 1, dtype=np.float64)
                np.savez(folder / "histograms" / f"{name}.npz", yields=contents, stdev=errors, bins=edges)
            write_text(folder / "config.yml", yaml_text(_configuration(found)))
            folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _histograms(model: RowModel) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return contents and errors (k,) by the name that cabinetry gives to a histogram."""
    out = {}
    for region, samples in model.channels.items():
        total = np.sum([sample.nominal for sample in samples.values()], axis=0)
        out[f"{region}_{_DATA}"] = (total, np.sqrt(total))
        for name, sample in samples.items():
            out[f"{region}_{name}"] = (sample.nominal, np.sqrt(sample.variance))
            for shift, sides in sample.shapes.items():
                for way, side in zip(("Up", "Down"), sides, strict=True):
                    out[f"{region}_{name}_{_entry(shift, region, name)}_{way}"] = (side, np.zeros_like(side))
    return {name.replace(" ", "-"): found for name, found in out.items()}


def _entry(shift: str, region: str, process: str) -> str:
    return f"{shift} {region} {process}"


def _configuration(model: RowModel) -> dict[str, Any]:
    channels = model.channels
    names = list(dict.fromkeys(name for samples in channels.values() for name in samples))
    factors: dict[str, dict[str, None]] = {}
    systematics: list[dict[str, Any]] = []
    for region, samples in channels.items():
        for name, sample in samples.items():
            for factor in ((POI,) * sample.signal) + sample.free:
                factors.setdefault(factor, {})[name] = None
            where = {"Samples": name, "Regions": region}
            for shift, sides in sample.norms.items():
                up, down = ({"Normalization": side - 1.0} for side in sides)
                own = {"Name": _entry(shift, region, name), "ModifierName": shift, "Type": "Normalization"}
                systematics.append({**own, "Up": up, "Down": down, **where})
            for shift in sample.shapes:
                own = {"Name": _entry(shift, region, name), "ModifierName": shift, "Type": "NormPlusShape"}
                systematics.append({**own, "Up": {}, "Down": {}, **where})
    described = [
        {"Name": region.config.name, "Variable": region.config.observable}
        | ({} if region.config.select is None else {"Filter": region.config.select})
        for region in model.regions
    ]
    limits = {"Nominal": 1, "Bounds": [-10, 50]}
    places = {name: [region for region, samples in channels.items() if name in samples] for name in names}
    quiet = {} if model.mc_stat else {"DisableStaterror": True}
    return {
        "General": {"Measurement": "higgsbench", "POI": POI, "InputPath": ".", "HistogramFolder": "histograms"},
        "Regions": described,
        "Samples": [{"Name": _DATA, "Data": True}, *({"Name": n, "Regions": places[n], **quiet} for n in names)],
        "NormFactors": [{"Name": factor, "Samples": list(of), **limits} for factor, of in factors.items()],
        "Systematics": systematics,
    }
