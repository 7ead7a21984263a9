"""Guess a first configuration for unknown files: the role of each column, and the reason for each guess."""

from __future__ import annotations

import json
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from higgsbench.config.section import label_text
from higgsbench.errors import DataError, HiggsbenchError, HiggsbenchWarning
from higgsbench.events import first_rows
from higgsbench.events.check import first_look, named_file, split_tree
from higgsbench.events.formats import event_trees
from higgsbench.events.samples import matched_files, recognised
from higgsbench.files import printable
from higgsbench.schema import TableSchema

LOOKED_AT = 20_000
"""Rows of each file that are read."""

_LABEL = re.compile(r"(class_?)?labels?|class|target|truth|is_?sig(nal)?|signal|y", re.IGNORECASE)
_SIGNAL_VALUES = ("s", "sig", "signal", "true", "1", "1.0")
_SIGNAL_NAME = re.compile(r"sig|higgs|ggh|vbf|tth|(^|_)[zw]?hh?($|_)|h\d{3}|zprime|susy|bsm", re.IGNORECASE)
_WEIGHT = re.compile(r"(.*_)?(weights?|wgts?|w)(_.*)?|.*weight", re.IGNORECASE)
_ID = re.compile(r"(run|event|evt|entry|lumi|lumiblock|luminosityblock)(_?(no|nr|num|number|id))?|id", re.IGNORECASE)
_JETS = re.compile(r"(.*_)?(n|num)_?(good_?)?jets?|(.*_)?n?jets?_?(n|num|number|mult|multiplicity)", re.IGNORECASE)
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "null", "on", "off", "y", "n"})
_NO_LAYOUT = TableSchema("none", (), "")
_MOST_CATEGORIES, _MOST_GROUPS, _FEW = 50, 12, 8
_ALIKE = 0.95  # correlation above which one weight is a variant of another
_ENDING = re.compile(r"(\.(csv|gz|parquet|root))+$|[_.-]?[*?\d]+$", re.IGNORECASE)


@dataclass(frozen=True)
class _Look:
    """The first rows of a file."""

    name: str  # as given; may include the name of a tree
    rows: pl.DataFrame  # scalar columns of its first rows
    vectors: tuple[str, ...]
    note: str = ""


def suggest_config(files: Sequence[str | Path]) -> str:
    """Look at event files and write a configuration for them, with the reason for each guess as a comment.

    Args:
        files: CSV, gzipped CSV, Parquet or ROOT files (`file.root:tree`); files whose names differ only in a number are
            one sample. A column of labels separates signal and background; without one, each sample is one of them.

    Returns:
        YAML that `higgsbench run` accepts.

    Raises:
        DataError: if a file cannot be read, or nothing distinguishes signal from background.

    Example:
        >>> print(suggest_config(["ggH.root:nominal", "ttbar.root:nominal"]))  # doctest: +SKIP
    """
    models = ["folds: 5", "models: [lightgbm, xgboost, logistic]  # `higgsbench models` lists all", "preset: good", ""]
    head = f"# From the first {LOOKED_AT:,} events of each file, by `higgsbench init`; every guess can be changed."
    names = list(dict.fromkeys(matched_files(map(str, files))))
    known = recognised(names[0], otherwise=_NO_LAYOUT) if len(names) == 1 else _NO_LAYOUT
    if known is not _NO_LAYOUT:
        schema = f"  schema: {known.name}  # recognised by the columns"
        return "\n".join([head, "data:", f"  path: {_yaml(names[0])}", schema, *models])
    looks = [_looked_at(name) for name in names]
    free, samples = _shared_columns(looks), _samples(looks)
    counters = {f"n{name}" for look in looks for name in look.vectors}
    lines = [*_labels(free, samples), *_weights(free), *_numbers(free, samples)]
    groups = _groups(free, counters)
    lines += [*groups, *_features(free, looks, counters)]
    notes = [f"# {note} ({count} files)" for note, count in Counter(x.note for x in looks if x.note).items()]
    if groups:
        models.insert(0, "# jet_split: both  # adds a row of submodels, one for each group, for every model")
    return "\n".join([head, *notes, "data:", *lines, *models])


def _looked_at(name: str) -> _Look:
    """Read the first rows of a file with an unknown layout."""
    (file, tree), source, note = named_file(name), printable(name), ""
    try:
        if first_look(file) == "root" and tree is None and (trees := event_trees(file)):
            likely = [name for name in trees if name in ("events", "nominal")] or [max(trees, key=trees.__getitem__)]
            tree, note = likely[0], f"reads the tree {likely[0]} of {', '.join(trees)}" if len(trees) > 1 else ""
        rows = first_rows(name, LOOKED_AT, tree)
    except HiggsbenchError:
        raise
    except Exception as error:  # uproot and Polars let errors of many libraries through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" ,;:")
        raise DataError(f"{source}: cannot be read as a table: {reason}") from error
    if rows.is_empty():
        raise DataError(f"{source}: no events")
    vectors = tuple(name for name, kind in rows.schema.items() if kind.is_nested())
    return _Look(f"{file}:{tree}" if note else name, rows.drop(vectors), vectors, note)


def _shared_columns(looks: Sequence[_Look]) -> dict[str, pl.Series]:
    """Return the first rows of the columns that are in all files."""
    shared = [name for name in looks[0].rows.columns if all(name in look.rows.columns for look in looks)]
    found = {}
    for name in shared:
        parts = [look.rows[name] for look in looks]
        texts = any(part.dtype == pl.String for part in parts)
        wanted = pl.String() if texts else pl.Float64() if any(p.dtype.is_float() for p in parts) else pl.Int64()
        found[name] = pl.concat([part.cast(wanted, strict=False) for part in parts])
    return found


def _samples(looks: Sequence[_Look]) -> dict[str, list[_Look]]:
    """Group files by their names without folders, extensions and numbers."""
    found: dict[str, list[_Look]] = {}
    for look in looks:
        path, tree = split_tree(look.name)
        stem = Path(path).name
        while (shorter := _ENDING.sub("", stem)) != stem and shorter:
            stem = shorter
        found.setdefault(re.sub(r"\W+", "_", stem) or tree or "events", []).append(look)
    return found


def _take(free: dict[str, pl.Series], chosen: Callable[[str, pl.Series], bool]) -> dict[str, pl.Series]:
    """Remove the chosen columns from those without a role, and return them."""
    found = {name: column for name, column in free.items() if chosen(name, column)}
    for name in found:
        del free[name]
    return found


def _labels(free: dict[str, pl.Series], samples: dict[str, list[_Look]]) -> list[str]:
    def is_label(name: str, column: pl.Series) -> bool:
        return bool(_LABEL.fullmatch(name)) and column.n_unique() == 2 and not column.null_count()

    label = next(iter(_take(free, is_label).items()), None)
    if label is None and len(samples) < 2:
        name = printable(next(iter(samples.values()))[0].name)
        raise DataError(
            f"{name}: no column of two values has a name like label, class or target; give at least one file of signal "
            "and one of background"
        )
    lines = ["  samples:"]
    signal, why = [name for name in samples if _SIGNAL_NAME.search(name)], "signal by file name; no column has labels"
    if label is None and not 0 < len(signal) < len(samples):
        signal, why = [next(iter(samples))], "CHECK this: no column or file name shows which sample is signal"
        text = f"no column or file name shows which sample is signal; {signal[0]} is assumed: check `signal: true`"
        warnings.warn(text, HiggsbenchWarning, stacklevel=2)
    for name, looks in samples.items():
        names = [look.name for look in looks]
        kind = f", signal: {str(name in signal).lower()}" if label is None else ""
        lines.append(f"    - {{files: {_yaml(names if len(names) > 1 else names[0])}, process: {name}{kind}}}")
    if label is None:
        lines[0] += f"  # {why}"
        return lines
    values = [label_text(value) for value in label[1].unique().sort()]
    rarer = min(label[1].value_counts().iter_rows(), key=lambda row: row[1])[0]
    known = [value for value in values if value.lower() in _SIGNAL_VALUES]
    chosen = known[0] if len(known) == 1 else label_text(rarer)
    why = "by name" if len(known) == 1 else "the rarer value"
    other = next(value for value in values if value != chosen)
    return [*lines, f"  label: {_yaml(label[0])}  # by name; it has two values",
            f"  signal: {_yaml(chosen)}  # {why}", f"  background: {_yaml(other)}"]  # fmt: skip


def _weights(free: dict[str, pl.Series]) -> list[str]:
    def is_weight(name: str, column: pl.Series) -> bool:
        return bool(_WEIGHT.fullmatch(name)) and column.dtype.is_numeric() and not column.null_count()

    found = _take(free, is_weight)
    if not found:
        return ["  # weight:  # no column has a name like weight, so every event counts 1"]
    factors: list[str] = []
    twice = []
    for name, column in found.items():  # variants of one weight are not factors
        alike = [known for known in factors if (pl.select(pl.corr(found[known], column)).item() or 0.0) > _ALIKE]
        factors += [] if alike else [name]
        twice += [f"  # not {name}: proportional to {known}, or nearly" for known in alike[:1]]
    lines = [f"  weight: {_yaml(' * '.join(map(_quoted, factors)))}  # by name; check all of these factors", *twice]
    if any((column < 0).any() for column in found.values()):
        lines.append("  negative_weights: resample  # in training only: keeps all sums; or drop, absolute, zero")
    return lines


def _numbers(free: dict[str, pl.Series], samples: dict[str, list[_Look]]) -> list[str]:
    found = _take(free, lambda name, column: bool(_ID.fullmatch(name)) and column.dtype.is_integer())
    if not found:
        return ["  # id:  # no column of event numbers, so the position in the sample identifies events"]
    names = list(found)
    unique = all(
        pl.concat([look.rows.select(pl.col(names).cast(pl.Int64, strict=False)) for look in looks]).is_unique().all()
        for looks in samples.values()
    )
    if not unique:
        return [f"  # id: {_yaml(names)}  # repeated within a sample, so the position identifies events"]
    return [f"  id: {_yaml(names)}  # by name; unique in the rows of each sample that were read"]


def _groups(free: dict[str, pl.Series], counters: set[str]) -> list[str]:
    for name, column in free.items():
        if name in counters or not column.dtype.is_numeric() or column.null_count() or not _JETS.fullmatch(name):
            continue
        values = column.unique().sort().to_list()
        if (column == column.round()).all() and len(values) <= _MOST_GROUPS and values[0] >= 0:
            groups = [[0], [1], list(range(2, max(int(values[-1]), 2) + 1))]
            return [f"  group: {_yaml(name)}  # number of jets, by name; still a feature", f"  groups: {groups}"]
    return []


def _features(free: dict[str, pl.Series], looks: Sequence[_Look], counters: set[str]) -> list[str]:
    some = dict.fromkeys(name for look in looks for name in (*look.rows.columns, *look.vectors))
    everywhere = [{*look.rows.columns, *look.vectors} for look in looks]
    left_out = [f"{name} is not in all files" for name in some if any(name not in names for names in everywhere)]
    few = [name for name, column in free.items() if column.dtype == pl.Int64 and 2 < column.n_unique() <= _FEW]
    left_out += [f"{name} counts a vector" for name in _take(free, lambda name, _: name in counters)]
    left_out += [f"{name} is constant" for name in _take(free, lambda _, column: column.n_unique() == 1)]
    texts = _take(free, lambda _, column: column.dtype == pl.String)
    categorical = [name for name, column in texts.items() if column.n_unique() <= _MOST_CATEGORIES]
    left_out += [f"{name} is text, over {_MOST_CATEGORIES} values" for name in texts if name not in categorical]
    vectors = [name for name in looks[0].vectors if all(name in look.vectors for look in looks)]
    elements = [f"{name}[{at}]" for name in vectors for at in (0, 1)]
    lines = _sentinel(free)
    names = [*(_quoted(name) for name in free), *elements, *categorical]
    if not names:
        raise DataError(f"{looks[0].name}: no column is left for features ({'; '.join(left_out) or 'all have roles'})")
    listed = textwrap.wrap(", ".join(map(_yaml, names)), 100, break_on_hyphens=False)
    lines += ["  features: [", *(f"    {line}" for line in listed), "  ]"]
    if categorical:
        lines.append(f"  categorical: {_yaml(categorical)}  # text")
    if few := [name for name in few if name in free]:
        lines.append(f"  # categorical: {_yaml(few)}  # whole numbers, few values; keep those without an order")
    if elements:
        lines.append("  # vectors: also len(x), sum(x), max(x), min(x), mean(x) and further elements x[2]")
    return [*lines, *(f"  # left out: {reason}" for reason in left_out)]


def _sentinel(free: dict[str, pl.Series]) -> list[str]:
    """Find the number that marks missing values: the lowest of a column, repeated, and far below all others."""
    found: Counter[str] = Counter()
    for column in pl.DataFrame(list(free.values())).select(cs.float()).iter_columns() if free else ():
        if column.is_nan().any():
            found[".nan"] += 1
        values = column.drop_nans().drop_nulls().unique().sort()[:2].to_list()
        if len(values) == 2 and values[0] <= -5 and values[1] - values[0] > abs(values[0]) / 4:
            single = np.float32(values[0])  # the shortest decimal that single or double precision reads as the value
            shortest = float(str(single) if float(single) == values[0] else values[0])
            found[f"{shortest:g}"] += int((column == values[0]).sum() > 1)
    if not found.total():
        return []
    value, columns = found.most_common(1)[0]
    many = f"{columns} column{'s' * (columns > 1)}"
    return [f"  missing: {value}  # {'in' if value == '.nan' else 'far below all other values of'} {many}"]


def _quoted(name: str) -> str:
    """Write a column name as expressions require."""
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f'"{name}"'


def _yaml(value: str | Iterable[str]) -> str:
    """Write text or a list of text so that YAML reads it back as text."""
    if not isinstance(value, str):
        return f"[{', '.join(map(_yaml, value))}]"
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)
