"""Score new events part by part and write tables of scores, in memory that does not grow with the file."""

from __future__ import annotations

import gzip
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from higgsbench.challenge import TEST_SETS
from higgsbench.errors import ConfigError, DataError
from higgsbench.events.check import without_truth
from higgsbench.events.read import EventStream
from higgsbench.files import atomic_path, check_folder_of, told_plainly
from higgsbench.runs.stored import SCORES
from higgsbench.runs.unit import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from higgsbench.runs.predictor import Predictor
    from higgsbench.runs.stored import StoredRun
    from higgsbench.schema import TableSchema

_TEXT = (".csv", ".csv.gz")
_READ_BYTES = 1 << 22
_NUMBER = "number of the event"


def check_ending(target: Path, *, text_only: bool = False) -> None:
    """Check in advance that a file of that name can be written.

    Raises:
        DataError: if the ending is not known or there is no such folder.
    """
    if str(target) == "-":
        return
    endings = _TEXT if text_only else (*_TEXT, ".parquet")
    if not target.name.lower().endswith(endings):
        raise DataError(f"{target}: the name must end with {', '.join(endings)}, or be - for standard output")
    check_folder_of(target, DataError)


def write_scores(parts: Iterable[pl.DataFrame], target: Path) -> None:
    """Write parts of a table one after the other, to .csv, .csv.gz or .parquet; `-` is CSV on standard output.

    Raises:
        DataError: if writing fails.
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
        packed = path.suffix.lower() == ".gz"
        with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) if packed else raw as stream:
            _write_csv(parts, stream)


def _write_csv(parts: Iterable[pl.DataFrame], stream: BinaryIO | gzip.GzipFile) -> None:
    for number, part in enumerate(parts):
        stream.write(part.write_csv(include_header=number == 0).encode())
    stream.flush()


def predictions(
    predictor: Predictor, data: str | Path, jobs: int = 1, subsets: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Score an event file.

    Args:
        predictor: a run's predictor.
        data: CSV, gzipped CSV, Parquet or ROOT file in the run's layout; labels and weights are not read.
        jobs: number of parts that are scored at a time. The scores do not depend on it.
        subsets: keep only events of these subsets (KaggleSet); all when None.

    Yields:
        Tables with EventId (the row number where the layout has none), score (log-odds in physical normalisation) and
        selected (score >= the frozen cut), in the order of the file.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    from threadpoolctl import threadpool_limits

    stream = EventStream(data, predictor.schema, columns=without_truth(predictor.schema), block_bytes=_READ_BYTES)
    waiting: deque[Future[pl.DataFrame]] = deque()
    with threadpool_limits(limits=predictor.threads), ThreadPoolExecutor(jobs) as pool:
        try:
            for frame in _blocks(stream, subsets):
                waiting.append(pool.submit(_scored, predictor, stream.source, frame))
                # At most one part more than there are threads is read ahead, so that memory stays bounded.
                if len(waiting) > jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _scored(predictor: Predictor, source: str, frame: pl.DataFrame) -> pl.DataFrame:
    try:
        score = predictor.scores(frame)
    except ConfigError as error:
        raise DataError(f"{source}, column {predictor.schema.group}: {error}") from error
    return pl.DataFrame({"EventId": frame[_NUMBER], "score": score, "selected": score >= predictor.threshold})


def _blocks(stream: EventStream, subsets: Sequence[str] | None) -> Iterator[pl.DataFrame]:
    """Cut the stream into blocks of `BLOCK` numbered events, counted from the first event that is kept."""
    schema = stream.schema
    if subsets is not None and (schema.subset is None or schema.subset not in stream.columns):
        raise DataError(f"{stream.source}: no column {schema.subset or 'of subsets'}, so no sets to choose from")
    rows, kept, rest = 0, 0, None
    for frame in stream.batches():
        numbers = pl.int_range(rows, rows + frame.height) if schema.event_id is None else pl.col(schema.event_id)
        rows += frame.height
        frame = frame.with_columns(numbers.alias(_NUMBER))
        if subsets is not None and schema.subset is not None:
            frame = frame.filter(pl.col(schema.subset).is_in(list(subsets)))
        kept += frame.height
        frame = frame if rest is None else pl.concat([rest, frame])
        whole = frame.height // BLOCK * BLOCK
        for first in range(0, whole, BLOCK):
            yield frame.slice(first, BLOCK)
        rest = frame.slice(whole)
    if kept == 0 and subsets is not None:
        raise DataError(f"{stream.source}: no events of the sets {', '.join(subsets)}")
    if rest is not None and rest.height:
        yield rest


def default_subsets(data: str | Path, schema: TableSchema) -> tuple[str, ...] | None:
    """Return the test sets (KaggleSet b and v) where a file has any of their events, otherwise None for all events.

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

    There are none where the layout numbers the rows of each file anew. A StoreError says if the scores are damaged.
    """
    if schema.event_id is None:
        return pl.Series("EventId", [], dtype=pl.Int64)
    if not (run.folder / SCORES).exists():
        return None
    return pl.Series("EventId", run.event_id)
