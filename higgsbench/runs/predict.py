"""Score new events part by part and write tables of scores, in memory that does not grow with the file."""

from __future__ import annotations

import gzip
import logging
import re
import sys
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import polars as pl
import polars.selectors as cs

from higgsbench.challenge import TEST_SETS
from higgsbench.errors import ConfigError, DataError, nearest_hint
from higgsbench.events import UNKNOWN, EventStream
from higgsbench.events.check import without_truth
from higgsbench.events.samples import SELECTED, Sample
from higgsbench.events.write import FORMATS
from higgsbench.files import atomic_path, check_folder_of, told_plainly
from higgsbench.runs.dataset import fold_expression
from higgsbench.runs.stored import SCORES
from higgsbench.runs.unit import BLOCK, mean_log_odds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.runs.artifacts import FoldsEntry
    from higgsbench.runs.predictor import FittedRun, Predictor
    from higgsbench.runs.stored import StoredRun
    from higgsbench.schema import TableSchema

_LOG = logging.getLogger("higgsbench")
_TEXT = (".csv", ".csv.gz")
_READ_BYTES = 1 << 22
_NUMBER, _ROW, _AT = "number of the event", "row of the event", "position of the event"


def check_ending(target: Path, *, text_only: bool = False) -> None:
    """Check in advance that a file of that name can be written.

    Raises:
        DataError: if the extension is unknown or there is no such folder.
    """
    if str(target) == "-":
        return
    endings = _TEXT if text_only else (*_TEXT, ".parquet", ".root")
    if not target.name.lower().endswith(endings):
        raise DataError(f"{target}: the name must end with {', '.join(endings)}, or be - for standard output")
    check_folder_of(target, DataError)


def write_scores(parts: Iterable[pl.DataFrame], target: Path, number: str = "EventId") -> None:
    """Write parts of a table one after the other, to .csv, .csv.gz, .parquet or .root; `-` is CSV on standard output.

    In ROOT, the event numbers get the name `number`, which they have in the layout.

    Raises:
        DataError: if writing fails.
        MissingExtraError: for ROOT without uproot.
    """
    if str(target) == "-":
        sys.stdout.flush()
        _write_csv(parts, sys.stdout.buffer)
        return
    path = target.expanduser()
    with told_plainly(DataError, path), atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":  # 17 bytes per event, gathered because Parquet has no parts to append
            pl.concat(list(parts)).write_parquet(temporary, compression="zstd")
            return
        if path.suffix.lower() == ".root":
            plain = (cs.integer().cast(pl.Int64), cs.float().cast(pl.Float64), cs.string().fill_null(""))
            FORMATS[".root"]((part.rename({"EventId": number}).with_columns(*plain) for part in parts), temporary)
            return
        packed = path.suffix.lower() == ".gz"
        with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) if packed else raw as stream:
            _write_csv(parts, stream)


def _write_csv(parts: Iterable[pl.DataFrame], stream: BinaryIO | gzip.GzipFile) -> None:
    for number, part in enumerate(parts):
        stream.write(part.write_csv(include_header=number == 0).encode())
    stream.flush()


def _without_fold(frame: pl.DataFrame) -> NDArray[np.int64]:
    return np.full((1, frame.height), -1)


@dataclass(frozen=True)
class Scorer:
    """The models that score the events of a file.

    Attributes:
        whole: scores events that have no fold.
        folds: score the events of each fold, repeat by repeat, with models that did not see them; may be empty.
        place: maps a table of numbered events to positions in `folds`, (repeats, n), -1 where an event has no fold.
        strict: whether an event without a fold is an error.
        members: whether to also return the scores of a stack's rows.
    """

    whole: Predictor
    folds: tuple[Predictor, ...] = ()
    place: Callable[[pl.DataFrame], NDArray[np.int64]] = _without_fold
    strict: bool = False
    members: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the scores."""
        rows = self.whole.rows if self.members else ()
        return ("score", *(f"score_{re.sub(r'[^A-Za-z0-9]+', '_', row.entry.name).strip('_')}" for row in rows))

    def scores(self, place: int, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return the scores (c, n) of events that the same models score, one row for each of `names`."""
        scorer = self.whole if place < 0 else self.folds[place]
        by_row = dict(zip((row.entry.name for row in scorer.rows), scorer.row_scores(frame), strict=True))
        members = [by_row[row.entry.name] for row in self.whole.rows] if self.members else []
        return np.stack([scorer.blended(list(by_row.values()), frame.height), *members])


def chosen_scorer(fitted: FittedRun, model: str | None, mode: str, members: bool = False) -> Scorer:
    """Return the models of a run that score the events of a file.

    With `folds.by`, these are the models of each event's fold. Otherwise the event numbers identify training events;
    all models together score the others.

    Args:
        fitted: the run.
        model: row to use; the stack when None, or the only row.
        mode: `auto`, `never` (all models score all events) or `always` (an event without a fold is an error).
        members: whether to also return the scores of a stack's rows.

    Raises:
        HiggsbenchError: for a row that does not exist or cannot be used, or `always` for a run without models of its
            folds.
    """
    if mode not in ("auto", "never", "always"):
        raise ConfigError(f"--out-of-fold {mode}: expected auto, never or always")
    whole, run, folds = fitted.held_out(model, all_members=members), fitted.run, fitted.content.folds
    if members and whole.blend is None:
        raise ConfigError(f"--members: {whole.name} is not a stack; leave out --members")
    scorers = () if mode == "never" else fitted.of_folds(whole)
    if mode == "always" and not scorers:
        raise ConfigError(
            f"--out-of-fold always: {run.name} has no models of its folds: its configuration has `test_prediction: "
            "refit`, or an earlier version made it; run the configuration again, with `fold_mean`"
        )
    known = mode == "always" or (folds is not None and folds.by) or (run.folder / SCORES).exists()
    if folds is None or not scorers or not known:
        return Scorer(whole, members=members)
    return Scorer(whole, scorers, _places(folds, run, whole.schema), mode == "always", members)


def _places(folds: FoldsEntry, run: StoredRun, schema: TableSchema) -> Callable[[pl.DataFrame], NDArray[np.int64]]:
    """Return the function that finds the fold of each event, as `Scorer.place`."""
    known: NDArray[Any]
    first = folds.number * np.arange(folds.repeats)[:, None]
    if folds.by is not None:
        by, known = fold_expression(folds.by, schema), np.array(folds.values)
        place = first + np.arange(folds.number)
    elif schema.event_id is None:
        return _without_fold
    else:
        by, known = pl.col(_NUMBER), run.event_id[run.by_event]
        place = first + run.fold[:, run.by_event]

    def places(frame: pl.DataFrame) -> NDArray[np.int64]:
        own = frame.select(by.alias(_NUMBER))[_NUMBER].to_numpy()
        at = np.minimum(np.searchsorted(known, own), known.size - 1)
        return np.where(known[at] == own, place[:, at], -1)

    return places


def predictions(
    scorer: Scorer,
    data: str | Path,
    jobs: int = 1,
    subsets: Sequence[str] | None = None,
    columns: Sequence[str] = (),
    sample: Sample = UNKNOWN,
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Score an event file.

    Args:
        scorer: the models.
        data: CSV, gzipped CSV, Parquet or ROOT file in the run's layout; labels and weights are not read.
        jobs: number of blocks that are scored at a time. The scores do not depend on it.
        subsets: keep only events of these subsets (KaggleSet); all when None.
        columns: columns of numbers in the file to copy to the table, after those that identify an event in its sample.
        sample: the sample that the file belongs to, where the run has samples.

    Yields:
        Tables with EventId (the row number where the layout has none), score (log-odds in physical normalisation, null
        for events that do not pass the layout's selection), selected (score >= the frozen cut), scores of members,
        columns that identify the events of a sample, and copied columns, in the order of the file; and how many of
        their events models of a fold scored.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    from threadpoolctl import threadpool_limits

    whole = scorer.whole
    columns = (*(name for name in whole.schema.ids if name not in columns), *columns)
    wanted = (*without_truth(whole.schema), *columns)
    stream = EventStream(data, whole.schema, columns=wanted, sample=sample, block_bytes=_READ_BYTES)
    _check_copied(columns, stream, scorer.names)
    results = _Results(scorer, columns, stream)
    waiting: deque[tuple[int, pl.Series, Future[NDArray[np.float64]]]] = deque()
    with threadpool_limits(limits=whole.threads), ThreadPoolExecutor(jobs) as pool:
        try:
            for place, block in _blocks(scorer, stream, subsets, results):
                waiting.append((place, block[_AT], pool.submit(_scored, scorer, place, stream.source, block)))
                # Read ahead at most one block more than the number of threads, so that memory stays bounded.
                if len(waiting) > jobs:
                    results.put(*waiting.popleft())
                    yield from results.complete()
            while waiting:
                results.put(*waiting.popleft())
                yield from results.complete()
        finally:
            for _, _, future in waiting:
                future.cancel()
    for name, values in results.unknown.items():
        shown = f"{', '.join(list(values)[:5])}{', ...' if len(values) > 5 else ''}"
        what = f"{values.total():,} events have values of {name} that did not occur in training"
        _LOG.info(f"{stream.source}: {what}: {shown[:200]}; they count as missing")


def _check_copied(columns: Sequence[str], stream: EventStream, scores: Sequence[str]) -> None:
    taken = ("EventId", stream.schema.event_id, "selected", *scores)
    for at, name in enumerate(columns):
        if name in taken or name in columns[:at]:
            raise DataError(f"--columns: the table already has a column {name!r}; leave it out")
        if name not in stream.columns:
            raise DataError(f"--columns: {stream.source} has no column {name!r}{nearest_hint(name, stream.columns)}")


def _scored(scorer: Scorer, place: int, source: str, frame: pl.DataFrame) -> NDArray[np.float64]:
    try:
        return scorer.scores(place, frame)
    except ConfigError as error:
        raise DataError(f"{source}, column {scorer.whole.schema.group}: {error}") from error


class _Results:
    """Scores in the order of the file: an event waits until those before it are scored in every repeat."""

    def __init__(self, scorer: Scorer, columns: Sequence[str], stream: EventStream) -> None:
        self.scorer, self.columns, self.stream, self.first = scorer, columns, stream, 0
        self.kept: pl.DataFrame | None = None
        self.place = np.empty((0, 0), dtype=np.int64)  # (repeats, n)
        self.scores = np.empty((0, 0, 0))  # (repeats, c, n)
        self.left = np.empty(0, dtype=np.int64)  # (n,) number of scores that an event waits for
        self.unknown: dict[str, Counter[str]] = {}  # by categorical column, values that did not occur in training

    def expect(self, frame: pl.DataFrame, place: NDArray[np.int64], passing: NDArray[np.bool_]) -> None:
        """Append events, with the models that score them in each repeat (repeats, n), and whether any does (n,)."""
        new = place[0] < 0
        copied = frame.select(self.stream.as_in_file(name) for name in self.columns)
        for name, known in self.scorer.whole.schema.categories.items():
            values = frame[name].filter(pl.Series(passing)).drop_nulls()
            if (other := values.filter(~values.is_in(known))).len():
                self.unknown.setdefault(name, Counter()).update(other.to_list())
        kept = frame.select(pl.col(_NUMBER).alias("EventId")).hstack(copied)
        scores = np.zeros((len(place), len(self.scorer.names), new.size))
        scores[:, :, ~passing] = np.nan
        if self.kept is not None:
            kept, place = pl.concat([self.kept, kept]), np.concatenate([self.place, place], axis=1)
            scores = np.concatenate([self.scores, scores], axis=2)
        self.kept, self.place, self.scores = kept, place, scores
        self.left = np.concatenate([self.left, np.where(new, 1, len(place)) * passing])

    def put(self, place: int, at: pl.Series, scores: Future[NDArray[np.float64]]) -> None:
        """Take the scores of the events at some positions."""
        rows = at.to_numpy().astype(np.int64) - self.first
        repeat = max(place, 0) * len(self.place) // max(len(self.scorer.folds), 1)
        self.scores[repeat][:, rows] = scores.result()
        self.left[rows] -= 1

    def complete(self) -> Iterator[tuple[pl.DataFrame, int]]:
        """Yield the events before the first that waits, and how many of them were scored by models of a fold."""
        ready = int(np.argmax(self.left > 0)) if self.left.any() else self.left.size
        if self.kept is None or ready == 0:
            return
        new, scores = self.place[0, :ready] < 0, self.scores[:, :, :ready]
        mean = np.where(new, scores[0], mean_log_odds(list(scores)))
        named = dict(zip(self.scorer.names, mean, strict=True))
        number, *copied = self.kept[:ready].iter_columns()
        selected = mean[0] >= self.scorer.whole.threshold
        table = {"EventId": number, "score": named.pop("score"), "selected": selected, **named}
        yield pl.DataFrame(table, nan_to_null=True).with_columns(copied), int((~new).sum())
        self.first += ready
        self.kept, self.left = self.kept[ready:], self.left[ready:]
        self.place, self.scores = self.place[:, ready:], self.scores[:, :, ready:]


def _blocks(
    scorer: Scorer, stream: EventStream, subsets: Sequence[str] | None, results: _Results
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Collect events that the same models score into blocks of `BLOCK` events, as the run scored them."""
    queues: dict[int, pl.DataFrame] = {}
    for frame in _numbered(stream, subsets):
        passing = frame[SELECTED].to_numpy() if SELECTED in frame.columns else np.ones(frame.height, dtype=np.bool_)
        place = np.where(passing, scorer.place(frame), -1)
        if scorer.strict and (lost := (place[0] < 0) & passing).any():
            number, row = frame[int(np.argmax(lost))].select(_NUMBER, _ROW).row(0)
            raise DataError(
                f"{stream.source}: {stream.row(row)}: event {number} has no fold: the run was not trained on it; use "
                "--out-of-fold auto to score such events by all models"
            )
        results.expect(frame, place, passing)
        for own in np.unique(place[:, passing]).tolist():
            rows = frame.filter((place == own).any(axis=0) & passing)
            queue = pl.concat([queues[own], rows]) if own in queues else rows
            whole = queue.height // BLOCK * BLOCK
            for first in range(0, whole, BLOCK):
                yield own, queue.slice(first, BLOCK)
            queues[own] = queue.slice(whole)
    yield from ((own, queue) for own, queue in queues.items() if queue.height)


def _numbered(stream: EventStream, subsets: Sequence[str] | None) -> Iterator[pl.DataFrame]:
    """Yield the kept events with their numbers, their rows, and their positions among the kept events."""
    schema = stream.schema
    if subsets is not None and (schema.subset is None or schema.subset not in stream.columns):
        raise DataError(f"{stream.source}: no column {schema.subset or 'of subsets'}, so no sets to choose from")
    rows, kept = 0, 0
    for frame in stream.batches(mark=schema.select is not None):
        number = pl.col(_ROW if schema.event_id is None else schema.event_id).cast(pl.Int64).alias(_NUMBER)
        numbered = frame.with_row_index(_ROW, rows).with_columns(number)
        rows += frame.height
        if subsets is not None and schema.subset is not None:
            numbered = numbered.filter(pl.col(schema.subset).is_in(list(subsets)))
        if numbered.height:
            yield numbered.with_row_index(_AT, kept)
        kept += numbered.height
    if kept == 0 and subsets is not None:
        raise DataError(f"{stream.source}: no events of the sets {', '.join(subsets)}")


def default_subsets(data: str | Path, schema: TableSchema) -> tuple[str, ...] | None:
    """Return the test sets (KaggleSet b and v) if a file has any of their events, otherwise None for all events.

    Raises:
        DataError: if the file cannot be read.
    """
    if schema.subset is None or schema.subset not in EventStream(data, schema, columns=without_truth(schema)).columns:
        return None
    stream = EventStream(data, schema, columns=(schema.subset,), block_bytes=_READ_BYTES)
    for frame in stream.batches(check=False):
        if frame[schema.subset].is_in(list(TEST_SETS)).any():
            return TEST_SETS
    return None


def training_events(run: StoredRun, schema: TableSchema) -> pl.Series | None:
    """Return the numbers of the events that a run was trained on; None if the run's scores are missing.

    The result is empty if the layout uses row numbers. A StoreError says if the scores are damaged.
    """
    if schema.event_id is None:
        return pl.Series("EventId", [], dtype=pl.Int64)
    if not (run.folder / SCORES).exists():
        return None
    return pl.Series("EventId", run.event_id)
