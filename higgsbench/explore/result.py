"""What an exploration finds, as plain frozen records that become JSON without losing a digit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from higgsbench.pages import Shown, Table, finite, number, with_error

SHORT = {"signal": "s", "background": "b", "unlabelled": "all"}
"""Short names of the classes in tables."""


@dataclass(frozen=True)
class ColumnInfo:
    """One column: its role, kind of values and unit ("" is a pure number, None unknown)."""

    name: str
    role: str
    kind: str
    unit: str | None


@dataclass(frozen=True)
class SampleInfo:
    """One sample: a subset of the file, or a second file."""

    name: str
    events: int
    signal: int | None
    background: int | None
    described: bool


@dataclass(frozen=True)
class WeightSummary:
    """Weights of one class of the described events; `effective` is Kish's (sum w)^2 / sum w^2."""

    label: str
    events: int
    total: float
    expected: float
    effective: float
    smallest: float
    largest: float
    negative: int


@dataclass(frozen=True)
class GroupRow:
    """Class balance in one group (None: all groups), in events and, rescaled to N_s and N_b, in expected events."""

    group: int | None
    events: int
    signal_events: int | None
    background_events: int | None
    signal_expected: float | None
    background_expected: float | None
    signal_effective: float | None
    background_effective: float | None
    s_over_b: float | None


@dataclass(frozen=True)
class MissingRow:
    """Missing values of one feature in one group (None: all) and one class."""

    feature: str
    group: int | None
    label: str
    events: int
    missing: int
    share: float | None
    weighted_share: float | None


@dataclass(frozen=True)
class Histogram:
    """Expected events of one class in the bins of `edges`; `below` and `above` lie outside."""

    values: tuple[float, ...]
    variances: tuple[float, ...]
    below: float
    above: float


@dataclass(frozen=True)
class ClassSummary:
    """Weighted statistics of a feature's present values in one class; quantiles to within one fine bin."""

    label: str
    present: int
    mean: float
    std: float
    minimum: float
    quantiles: tuple[float, ...]
    maximum: float
    histogram: Histogram


@dataclass(frozen=True)
class FeatureSummary:
    """One feature by itself.

    Attributes:
        name: column.
        unit: unit, "" for a pure number, None if unknown.
        edges: edges of the histograms.
        classes: statistics by class.
        auc: weighted AUC of the feature as a score, present values only; below 0.5 signal has the smaller values.
        auc_se: its standard error from the number of simulated events.
        auc_binning: largest error that binning can have caused.
        auc_missing_low: AUC of all events with a missing value below every other, as -999 in a raw file.
    """

    name: str
    unit: str | None
    edges: tuple[float, ...]
    classes: tuple[ClassSummary, ...]
    auc: float | None
    auc_se: float | None
    auc_binning: float | None
    auc_missing_low: float | None

    @property
    def power(self) -> float:
        """Distance of the AUC from that of a random guess."""
        return 0.0 if self.auc is None else abs(self.auc - 0.5)


@dataclass(frozen=True)
class Pair:
    """Correlation of two features over the events that have both."""

    first: str
    second: str
    r: float
    se: float
    events: int


@dataclass(frozen=True)
class Correlations:
    """Weighted correlations of one class or of the expected mixture, and the strongest of them."""

    label: str
    matrix: tuple[tuple[float, ...], ...]
    strongest: tuple[Pair, ...]


@dataclass(frozen=True)
class DriftRow:
    """One feature in the described events against another sample.

    Attributes:
        sample: the other sample.
        feature: column.
        ks: Kolmogorov-Smirnov distance, every event counting the same; None where one side has no value.
        ks_p: its p-value (asymptotic, for independent samples; too large where values repeat often).
        ks_weighted: distance of the expected distributions (weights rescaled per class); None without weights.
        ks_weighted_p: its p-value with effective sample sizes; a guide, as for any weighted KS test.
        ks_binning: largest error that binning can have caused in `ks`.
        missing: share of missing values in the described events.
        missing_other: share in the other sample.
        missing_z: difference of the two in standard errors.
        flagged: whether a p-value or z is beyond 0.001 after correction for the number of features.
    """

    sample: str
    feature: str
    ks: float | None
    ks_p: float | None
    ks_weighted: float | None
    ks_weighted_p: float | None
    ks_binning: float
    missing: float
    missing_other: float
    missing_z: float
    flagged: bool


@dataclass(frozen=True)
class SplitCase:
    """AMS of one selection in one sample, with one normalisation."""

    sample: str
    fraction: float
    rescaled: bool
    selection: str
    s: float
    b: float
    ams: float
    ams_se: float


@dataclass(frozen=True)
class SplitStudy:
    """Why splits must rescale weights: one cut in random fifths of the events, with and without rescaling."""

    feature: str
    cut: float
    above: bool
    cases: tuple[SplitCase, ...]


@dataclass(frozen=True, repr=False)
class Exploration(Shown):
    """Everything `explore` finds.

    Attributes:
        source: file.
        layout: name of the table's schema.
        columns: the file's columns.
        samples: subsets and files.
        weight: column of the weights, None where every event counts 1.
        group: name of the group column, or None.
        n_s: reference total of signal, None without labels; n_b: of background.
        groups: class balance; the last row is the sum.
        weights: weights by class.
        missing: missing values; features without any are left out.
        quantile_levels: levels of the quantiles in `ClassSummary`.
        features: features in file order.
        correlations: overall and by class.
        drift: described events against every other sample.
        split: the rescaling study, None without labels.
        notes: what could not be shown, and why.
    """

    source: str
    layout: str
    columns: tuple[ColumnInfo, ...]
    samples: tuple[SampleInfo, ...]
    weight: str | None
    group: str | None
    n_s: float | None
    n_b: float | None
    groups: tuple[GroupRow, ...]
    weights: tuple[WeightSummary, ...]
    missing: tuple[MissingRow, ...]
    quantile_levels: tuple[float, ...]
    features: tuple[FeatureSummary, ...]
    correlations: tuple[Correlations, ...]
    drift: tuple[DriftRow, ...]
    split: SplitStudy | None
    notes: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether the truth of the events is known."""
        return self.n_s is not None

    @property
    def described(self) -> SampleInfo:
        """The sample that is described."""
        return next(s for s in self.samples if s.described)

    @property
    def headline(self) -> str:
        """What is described, in one line."""
        sample = self.described
        text = f"{sample.events:,} events ({sample.name})"
        if sample.signal is not None and sample.background is not None:
            text += f": {sample.signal:,} signal, {sample.background:,} background"
        if self.n_s is not None and self.n_b is not None:
            text += f"; expected N_s = {self.n_s:,.2f}, N_b = {self.n_b:,.1f}, s/b = 1/{self.n_b / self.n_s:,.0f}"
        return text

    def ranked(self) -> list[FeatureSummary]:
        """Features by single-feature power, strongest first."""
        return sorted(self.features, key=lambda f: -f.power)

    def __repr__(self) -> str:
        """Name the file and what is described."""
        return f"<Exploration of {self.source}: {self.headline}>"

    def as_tables(self) -> list[Table]:
        """Return the table of the features, strongest first."""
        labels = [w.label for w in self.weights]
        auc, more = (["AUC ± s.e."], ["binning", "missing lowest"]) if self.labelled else ([], [])
        headings = ["feature", "unit", *auc, *(f"{SHORT[label]} mean" for label in labels), *more]
        caption = "Features, weighted"
        if self.labelled:
            caption += ", strongest first. AUC of present values; below 0.5: signal is smaller; binning: its largest "
            caption += "error from bins; missing lowest: AUC with a missing value below every other, as -999 in a raw "
            caption += "file"
        rows = []
        for f in self.ranked():
            means = {c.label: c.mean for c in f.classes}
            cells = [with_error(f.auc, f.auc_se)] if self.labelled else []
            cells += [number(means.get(label)) for label in labels]
            cells += [number(f.auc_binning, 2), number(f.auc_missing_low)] if self.labelled else []
            rows.append((f.name, shown_unit(f.unit), *cells))
        return [Table(caption, headings, rows, text=(0, 1))]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per feature and class; the AUC is that of the feature."""
        numbers = ("present", "mean", "std", "minimum", "maximum")
        return [
            {"feature": f.name, "unit": f.unit, "class": c.label, **{name: getattr(c, name) for name in numbers},
             **{f"q{level:g}": value for level, value in zip(self.quantile_levels, c.quantiles, strict=True)},
             "auc": f.auc, "auc_se": f.auc_se}
            for f in self.features
            for c in f.classes
        ]  # fmt: skip

    def remarks(self) -> list[str]:
        """Return what is described, and the notes."""
        return [f"{self.source} · layout {self.layout}: {self.headline}", *(f"Note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; numbers that do not exist (NaN, infinity) become null."""
        return {"format": "higgsbench-exploration-1", **finite(asdict(self))}


def shown_unit(unit: str | None) -> str:
    """Write a unit in a table: 1 for a pure number, a question mark where the layout does not say."""
    return "?" if unit is None else unit or "1"
