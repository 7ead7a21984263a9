"""The meaning of the columns of event files: `data.schema` for one table, `data.samples` for files of one process."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from higgsbench.config.section import (
    Categorical,
    FeatureEntry,
    Label,
    Missing,
    NegativeWeights,
    OrText,
    Positive,
    Strict,
    Texts,
    check_labels,
    label_text,
    problem,
    several,
)
from higgsbench.errors import ConfigError, nearest_hint, repeated, shortened
from higgsbench.events import UNKNOWN, numeric_columns
from higgsbench.events.check import OF_SAMPLES, split_tree
from higgsbench.events.samples import Sample, matched_files
from higgsbench.expressions import parse_expression
from higgsbench.schema import TableSchema

OWN = LABEL, WEIGHT, PROCESS, NUMBER, FOLD = "Label", "Weight", "Process", "EventId", "Fold"
"""Columns of the combined table of all samples, except the features."""

_PLAIN = re.compile(r"[^\W\d]\w*")
_GLOB = re.compile(r"[\w.*?-]*[*?][\w.*?-]*")


class SchemaConfig(Strict):
    """The user's own table of signal and background events: what each column means."""

    name: Annotated[str, Field(min_length=1, max_length=60)] = "custom"
    """Name of the layout in tables and messages."""
    features: Annotated[list[str], Field(min_length=1)]
    """Columns of the file that models may use."""
    categorical: Categorical = None
    """Columns of text or whole numbers that are categories (features too); or each with its list of values."""
    label: str
    """Column that says signal or background."""
    signal: Label = 1
    """Its value for signal events."""
    background: Label | None = None
    """Its value for background events; by default every other value."""
    weight: str | None = None
    """Column with the weights of the events; by default every event counts 1."""
    process: str | None = None
    """Column with the name of the physics process; results then include every process."""
    id: str | None = None
    """Column with a whole number that identifies an event; by default the position in the file."""
    group: str | None = None
    """Column with whole numbers, such as the number of jets, that `jet_split` splits by."""
    groups: list[Annotated[list[int], Field(min_length=1)]] | None = None
    """Lists of its values; each list has its own submodel."""
    missing: Missing = None
    """The mark of a missing value: a number, .nan, or `empty` for empty cells."""
    header: bool = True
    """Whether the first line names the columns."""
    columns: list[str] | None = None
    """Names of the columns of a file without header."""
    n_s: Positive | None = None
    """Expected signal events; by default the sum of the weights."""
    n_b: Positive | None = None
    """Expected background events; by default the sum of the weights."""
    negative_weights: NegativeWeights | None = None
    """Allow negative weights, and what training does with these events (`resample`: shares them among neighbours);
    evaluation uses the weights unchanged."""

    @model_validator(mode="after")
    def _consistent(self) -> SchemaConfig:
        special = {"label": self.label, "weight": self.weight, "process": self.process, "id": self.id}
        categorical = self.categorical or {}
        special |= {"group": self.group} if self.group in categorical else {}
        for key, name in special.items():
            if name in (*self.features, *categorical):
                what = "categorical" if key == "group" else "a feature"
                raise problem(f"column {name!r} is the {key} and cannot be {what}")
        if (twice := repeated(self.features)) is not None:
            raise problem(f"feature {twice!r} is named twice")
        if self.header == (self.columns is not None):
            raise problem("`columns` is for files without a header; use it only with `header: false`")
        needed = (*self.features, *categorical, *special.values(), self.group)
        lost = [name for name in needed if name is not None and self.columns is not None and name not in self.columns]
        if lost:
            raise problem(f"column {lost[0]!r} is not in `columns`")
        check_labels(self.signal, self.background)
        if self.groups is not None and self.group is None:
            raise problem("`groups` needs a `group` column")
        if self.negative_weights is not None and self.weight is None:
            raise problem("`negative_weights` needs a `weight` column")
        return self

    def table_schema(self) -> TableSchema:
        """Return the layout."""
        same = {key: getattr(self, key) for key in ("name", "label", "weight", "process", "n_s", "n_b", "header")}
        return TableSchema(
            **same,
            **_shared_keys(self),
            features=tuple(dict.fromkeys((*self.features, *(self.categorical or ())))),
            signal=label_text(self.signal),
            background=None if self.background is None else label_text(self.background),
            event_id=self.id,
            negative_weights=self.negative_weights is not None,
            columns=tuple(self.columns or ()),
        )


class SampleEntry(Strict):
    """Files of one process."""

    files: Texts
    """Path, pattern (`ntuples/ttbar_*.root`) or list of these; `file.root:tree` names a tree."""
    process: Annotated[str, Field(min_length=1, max_length=60)]
    """Name of the process."""
    signal: bool | None = None
    """Whether its events are signal; false by default, unless `data.label` names a column of labels."""
    scale: Positive = 1.0
    """Factor on the weights of its events."""
    weight: str | None = None
    """Expression of their weights, instead of `data.weight`."""

    @model_validator(mode="after")
    def _weighted(self) -> SampleEntry:
        if self.weight is not None:
            _checked(self.weight, "weight")
        return self


def columns_of(text: str, where: str) -> tuple[str, ...]:
    """Return the columns that an expression uses; the ConfigError for a bad expression starts with `where`."""
    return tuple(leaf.branch for leaf in parse_expression(text, None, where).leaves)


_OneFeature = Annotated[list[FeatureEntry], BeforeValidator(several), Field(min_length=1), OrText()]


class SampleKeys(Strict):
    """Keys of `data` that describe samples."""

    samples: Annotated[list[SampleEntry], Field(min_length=1)] | None = None
    """Files of one process each, instead of one file with labels."""
    label: str | None = None
    """Column of labels, signal or background, in samples without the key `signal`."""
    signal: Label | None = None
    """Value of `label` for signal events; 1 by default."""
    background: Label | None = None
    """Its value for background events; by default every other value."""
    weight: str | None = None
    """Weight of an event, an expression over columns of the files; by default every event counts 1."""
    id: Texts | None = None
    """Columns of whole numbers that together identify an event in its sample; by default its position."""
    group: str | None = None
    """Column of whole numbers, such as the number of jets, that `jet_split` splits by."""
    groups: list[Annotated[list[int], Field(min_length=1)]] | None = None
    """Lists of its values; each list has its own submodel."""
    select: str | None = None
    """Expression over columns of the files; the run leaves out events that fail it."""
    features: _OneFeature | None = None
    """`all` columns of numbers without another role, or names, patterns (`jet_*`) and expressions (`jet_pt[0]`)."""
    missing: Missing = None
    """The mark of a missing value in the files: a number, .nan, or `empty` for empty cells."""
    categorical: Categorical = None
    """Columns of text or whole numbers whose values are categories, not measurements."""
    policy: NegativeWeights | None = Field(None, alias="negative_weights")
    """Allow negative weights, and what training does with these events; evaluation uses the weights unchanged."""

    @model_validator(mode="after")
    def _described(self) -> SampleKeys:
        if self.samples is None:
            own = {name: field.alias or name for name, field in SampleKeys.model_fields.items()}
            for key in (own[name] for name in own if name in self.model_fields_set and getattr(self, name) is not None):
                raise problem(f"`{key}` belongs to `samples`; describe the columns of one file under `schema`", key)
            return self
        self._check_classes(self.samples)
        if self.label is None and (self.signal, self.background) != (None, None):
            raise problem("`signal` and `background` are values of the column `label`; add `label`", "samples")
        check_labels(1 if self.signal is None else self.signal, self.background)
        if self.groups is not None and self.group is None:
            raise problem("`groups` needs a `group` column", "groups")
        if self.policy is not None and not self._weights():
            raise problem("`negative_weights` needs a `weight`", "negative_weights")
        if (twice := repeated(self.id or [])) is not None:
            raise problem(f"column {shortened(twice)!r} is named twice", "id")
        for key in ("weight", "select"):
            if (text := getattr(self, key)) is not None:
                _checked(text, key)
        self._check_features(self.features or [])
        return self

    def _check_classes(self, samples: list[SampleEntry]) -> None:
        kinds: dict[str, str] = {}
        for entry in samples:
            kind = self._class(entry)
            if kinds.setdefault(entry.process, kind) != kind:
                raise problem(f"process {entry.process!r} is {kinds[entry.process]} in one sample, {kind} in another")
        for kind in ("signal", "background"):
            if not {kind, "labelled"} & set(kinds.values()):
                raise problem(f"no sample is {kind}; write `signal: {str(kind == 'signal').lower()}`", "samples")

    def _class(self, entry: SampleEntry) -> str:
        if entry.signal is None and self.label is not None:
            return "labelled"
        return "signal" if entry.signal else "background"

    def _check_features(self, entries: list[FeatureEntry]) -> None:
        roles, named = self._roles(), set[str]()
        for entry in entries:
            if _pattern(entry) is not None:
                continue
            name, expr = _definition(entry)
            for column in [name] if expr is None else _checked(expr, "features"):
                if column in roles:
                    raise problem(
                        f"column {shortened(column)!r} is {roles[column]} and cannot be a feature", "features"
                    )
            if name in ("", *OWN):
                raise problem(
                    f"a feature cannot have the name {shortened(name)!r}; write `name` and `expr`", "features"
                )
            if name in named:
                raise problem(f"feature {shortened(name)!r} is named twice", "features")
            named.add(name)

    def _weights(self) -> list[str]:
        texts = [self.weight, *(entry.weight for entry in self.samples or ())]
        return [text for text in texts if text is not None]

    def _roles(self) -> dict[str, str]:
        """Return the columns that models may not see, with the role of each."""
        found = {column: "part of the weight" for text in self._weights() for column in _checked(text, "weight")}
        found |= dict.fromkeys(self.id or (), "part of the `id`")
        return found if self.label is None else {**found, self.label: "the label"}

    def sample_layout(self, by: str | None = None) -> TableSchema:
        """Return the layout of the combined table of all samples.

        Args:
            by: expression of the folds.

        Raises:
            DataError: if features are patterns and the first file cannot be read.
            ConfigError: if a pattern matches no column.
        """
        features = self._features(by)
        derived = {name: expr for name, expr in features.items() if expr is not None}
        weighted = bool(self._weights()) or any(entry.scale != 1.0 for entry in self.samples or ())
        if self.weight is not None:
            derived[WEIGHT] = self.weight
        if by is not None:
            columns_of(by, "folds.by")
            derived[FOLD] = by
        labelled = self.label is not None
        background = label_text(self.background) if self.background is not None else None if labelled else "b"
        return TableSchema(
            **_shared_keys(self),
            name=OF_SAMPLES,
            features=tuple(features),
            label=self.label or LABEL,
            signal=label_text(1 if self.signal is None else self.signal) if labelled else "s",
            background=background,
            weight=WEIGHT if weighted else None,
            event_id=NUMBER if self.id else None,
            integers=frozenset() if self.group is None else frozenset({self.group}),
            negative_weights=self.policy is not None,
            process=PROCESS,
            derived=derived,
            select=self.select,
            ids=tuple(self.id or ()),
            fold=None if by is None else FOLD,
        )

    def _features(self, by: str | None) -> dict[str, str | None]:
        """Return the expression of each feature by name; None for columns of the files."""
        entries = self.features or [FeatureEntry(name="all")]
        found: dict[str, str | None] = {}
        numbers: tuple[str, ...] = ()
        if any(map(_pattern, entries)):
            first = matched_files((self.samples or [])[0].files)[0]
            taken = {*self._roles(), *(self.categorical or ()), *OWN}
            taken |= set(columns_of(by, "folds.by")) if by is not None else set()
            numbers = tuple(name for name in numeric_columns(first) if name not in taken)
        for entry in entries:
            if (pattern := _pattern(entry)) is not None:
                matched = [name for name in numbers if fnmatchcase(name, pattern)]
                if not matched:
                    hint = nearest_hint(pattern, numbers)
                    raise ConfigError(f"data.features: no column of numbers in {first} matches {pattern!r}{hint}")
                found |= dict.fromkeys((name for name in matched if name not in found), None)
            else:
                name, expr = _definition(entry)
                found[name] = expr
        return {**dict.fromkeys(name for name in self.categorical or () if name not in found), **found}

    def sample_list(self, layout: TableSchema) -> list[Sample]:
        """Return the samples with the names of their files, for a layout that `sample_layout` returned."""
        found: list[Sample] = []
        for entry in self.samples or ():
            constants: dict[str, str | float] = {PROCESS: entry.process}
            kind = self._class(entry)
            if kind != "labelled":
                constants[layout.label] = layout.signal if kind == "signal" else layout.background or "background"
            derived, text = {}, entry.weight or self.weight
            if layout.weight is not None and text is None:
                constants[WEIGHT] = entry.scale
            elif text is not None and (entry.weight is not None or entry.scale != 1.0):
                derived[WEIGHT] = f"({text}) * {entry.scale!r}"
            before = sum(sample.constants[PROCESS] == entry.process for sample in found)
            name = f"{entry.process} ({before + 1})" if before else entry.process
            files = matched_files(entry.files)
            for at, file in enumerate(files):
                if any(_same(file, other) for sample in found for other in sample.files) or file in files[:at]:
                    raise ConfigError(f"data.samples: {file} is named twice")
            found.append(Sample(name, files, constants, derived))
        return found

    def sample_of(self, path: str, layout: TableSchema, name: str | None = None) -> Sample:
        """Return the sample of that name, or the sample of a file; `UNKNOWN` if the file is in no sample.

        Other trees of a file, such as systematic variations, belong to the sample of the file.
        """
        samples = self.sample_list(layout)
        if name is None:
            for wanted in (path, str(split_tree(path)[0])):
                found = [sample for sample in samples if any(_same(wanted, file) for file in sample.files)]
                if len(found) == 1:
                    return found[0]
            return UNKNOWN
        for sample in samples:
            if sample.name == name:
                return sample
        have = ", ".join(sample.name for sample in samples) or "none"
        raise ConfigError(f"--sample {name}: no sample of that name; the run has {have}")

    def found_in(self, layout: TableSchema) -> dict[str, Any]:
        """Return values of keys that list all features, files and categories."""
        features = [
            FeatureEntry(name=name, expr=layout.derived.get(name) or (None if _is_plain(name) else f'"{name}"'))
            for name in layout.features
        ]
        samples = [
            entry.model_copy(update={"files": list(sample.files)})
            for entry, sample in zip(self.samples or (), self.sample_list(layout), strict=True)
        ]
        categorical = {name: list(values) for name, values in layout.categories.items()} or None
        return {"features": features, "samples": samples, "categorical": categorical}


def _shared_keys(section: SchemaConfig | SampleKeys) -> dict[str, Any]:
    """Return the fields of a layout that both kinds of sections describe in the same way."""
    return {
        "group": section.group,
        "groups": tuple(tuple(numbers) for numbers in section.groups or ()),
        "missing": None if section.missing == "empty" else section.missing,
        "empty_is_missing": section.missing == "empty",
        "categories": {name: tuple(map(label_text, values)) for name, values in (section.categorical or {}).items()},
        "ignore_unknown": True,
    }


def _checked(text: str, key: str) -> tuple[str, ...]:
    try:
        return columns_of(text, "")
    except ConfigError as error:
        raise problem(str(error).removeprefix(": "), key) from error


def _pattern(entry: FeatureEntry) -> str | None:
    """Return the pattern of columns that an entry stands for, None if it is one feature."""
    if entry.expr is not None:
        return None
    return "*" if entry.name == "all" else entry.name if _GLOB.fullmatch(entry.name) else None


def _is_plain(name: str) -> bool:
    """Whether a name alone stands for the column of that name."""
    return bool(_PLAIN.fullmatch(name)) and name != "all"


def _definition(entry: FeatureEntry) -> tuple[str, str | None]:
    """Return the name of a feature, and its expression unless it is a column; `jet_pt[0]` is named jet_pt_0."""
    if entry.expr is not None or _PLAIN.fullmatch(entry.name):
        return entry.name, entry.expr
    return re.sub(r"\W+", "_", entry.name).strip("_"), entry.name


def _same(one: str, other: str) -> bool:
    """Whether two names mean the same file and, if both name a tree, the same tree."""
    (a, tree), (b, other_tree) = split_tree(one), split_tree(other)
    same_tree = tree == other_tree or None in (tree, other_tree)
    return same_tree and a.expanduser().resolve() == b.expanduser().resolve()
