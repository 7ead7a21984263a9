"""Layer 2: write, strictly read and score the challenge's submission files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from higgsbench.errors import DataError, HiggsbenchWarning
from higgsbench.events.check import first_look
from higgsbench.events.text import text_chunks
from higgsbench.files import printable
from higgsbench.metrics import evaluation_weights, roc_auc
from higgsbench.metrics.estimates import ams_estimate
from higgsbench.schema import ATLAS_HIGGS, B_REG, N_B, N_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.events import Events
    from higgsbench.metrics.estimates import Estimate

TEST_SETS = ("b", "v")
"""Subsets that are scored by default: the challenge's public and private test events."""

_COLUMNS = ("EventId", "RankOrder", "Class")
_NAMES = {"b": "public", "v": "private"}
_STANDARD_ERRORS = 3.0
_QUOTES = "remove the quotes, which the challenge's format does not have"

PRIVATE_EVENTS = 450_000
"""Events of the challenge's whole private set, on which the final scores were computed."""


class Published(NamedTuple):
    """A published AMS on the challenge's whole private set."""

    who: str
    ams: float
    source: str


PUBLISHED = (
    Published("Melis, winner of the challenge", 3.80581, "PMLR 42 (2015) 19"),
    Published("Strong 2020 (± 0.011)", 3.803, "arXiv:2002.01427"),
    Published("Salimans, second place", 3.78913, "PMLR 42 (2015) 19"),
    Published("Courtiol, third place", 3.78682, "PMLR 42 (2015) 19"),
    Published("Chen and He, XGBoost", 3.71885, "PMLR 42 (2015) 69"),
)
"""Highest first. Each source is a publication, because leaderboards can change."""


def standing(score: SubmissionScore) -> str:
    """Name the published results around a score on the whole private set; an empty string for other events."""
    if score.name != "private" or score.events != PRIVATE_EVENTS:
        return ""
    above = [entry for entry in PUBLISHED if entry.ams > score.ams]
    below = [entry for entry in PUBLISHED if entry.ams <= score.ams]
    parts = [f"below {_named(above[-1])}"] if above else []
    parts += [f"above {_named(below[0])}"] if below else []
    return f"Among published scores on the full private set: {', '.join(parts)}"


def published_note(comparability: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line with the published results, if rows on the challenge's events have an AMS on private events.

    Without such rows, or for other data, return an empty string.
    """
    wanted = {"layout": ATLAS_HIGGS.name, "b_reg": B_REG, "n_s": N_S, "n_b": N_B}
    if comparability.get("simulated") or any(comparability.get(key) != value for key, value in wanted.items()):
        return ""
    if all(row.get("ams_private") is None for row in rows):
        return ""
    return (
        f"Published AMS on the full private set ({PRIVATE_EVENTS:,} events, after training on 250,000): "
        f"{'; '.join(map(_named, PUBLISHED))}. Compare them only with AMS private on all of these events."
    )


TOY = "These events come from the built-in toy simulation; their numbers are not those of real data."


def event_notes(comparability: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return lines on simulated events: of the run with this comparability, or in the training of rows."""
    return [*([TOY] if comparability.get("simulated") else []), *filter(None, [simulation_note(rows)])]


def simulation_note(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a line on the rows that learnt from simulated events, by their records; empty if none did."""
    names = ", ".join(printable(row["name"]) for row in rows if row.get("simulation"))
    if not names:
        return ""
    return (
        f"Uses simulation: {names}. The built-in simulation was fitted to real events, on which out-of-fold scores are "
        "therefore optimistic (docs/simulation.md)."
    )


def _named(entry: Published) -> str:
    return f"{entry.who} {entry.ams:g} ({entry.source})"


@dataclass(frozen=True)
class Submission:
    """A valid submission.

    Attributes:
        event_id: (n,) event numbers in the order of the file.
        rank: (n,) permutation of 1 to n.
        selected: (n,) whether the class is `s`.
        source: file it came from.
    """

    event_id: NDArray[np.int64]
    rank: NDArray[np.int64]
    selected: NDArray[np.bool_]
    source: str


def submission_table(event_id: NDArray[np.int64], score: NDArray[np.float64], threshold: float) -> pl.DataFrame:
    """Make a submission out of scores.

    Args:
        event_id: (n,) event numbers, each once.
        score: (n,) log-odds.
        threshold: events with score >= threshold are selected.

    Returns:
        The columns of a submission in the order of the events. Tied scores are ranked by event number, so that the
        order of the file does not matter; since ties share a side of the cut, selected events hold the highest ranks.

    Raises:
        DataError: if an event number occurs twice.
    """
    unique, count = np.unique(event_id, return_counts=True)
    if (count > 1).any():
        raise DataError(f"EventId {int(unique[count > 1][0])} occurs twice; a submission has each event once")
    rank = np.argsort(np.lexsort((event_id, score))) + 1
    selected = np.where(score >= threshold, "s", "b")
    return pl.DataFrame({"EventId": event_id, "RankOrder": rank, "Class": selected})


def read_submission(file: Path | pl.DataFrame, expected: NDArray[np.int64] | None = None) -> Submission:
    """Read a submission as strictly as the challenge did.

    Args:
        file: CSV or gzipped CSV, or a table of these columns (messages count its lines like a file's).
        expected: numbers of the test events; a file that lacks some is refused for that, not for its highest ranks.

    Raises:
        DataError: naming the file, the line and the column of the first thing that is wrong.
    """
    if isinstance(file, pl.DataFrame):
        if tuple(file.columns) != _COLUMNS or not file.height:
            raise DataError(f"submission: {file.height} events, columns {file.columns}; expected {', '.join(_COLUMNS)}")
        table, file = file.select(pl.all().cast(pl.String)), Path("submission")
    else:
        table = _cells(file)
    for name in _COLUMNS[:2]:
        bad = ~table[name].str.contains(r"^[0-9]{1,18}$").fill_null(False)
        _refuse_first(table, bad, name, "is not a whole number", file)
    _refuse_first(table, ~table["Class"].is_in(["s", "b"]).fill_null(False), "Class", "is neither s nor b", file)
    event_id, rank = (table[name].cast(pl.Int64) for name in _COLUMNS[:2])
    if expected is not None:
        _refuse_missing(event_id.to_numpy(), expected, str(file))
    _refuse_first(table, (rank < 1) | (rank > table.height), "RankOrder", f"is not in 1 to {table.height}", file)
    for name, values in (("EventId", event_id), ("RankOrder", rank)):
        _refuse_first(table, ~values.is_first_distinct(), name, "has occurred before", file)
    return Submission(event_id.to_numpy(), rank.to_numpy(), (table["Class"] == "s").to_numpy(), str(file))


def _refuse_missing(event_id: NDArray[np.int64], expected: NDArray[np.int64], source: str) -> None:
    """Refuse a submission that lacks test events and has no others in their place."""
    missing = np.setdiff1d(expected, event_id)
    if missing.size and event_id.size + missing.size == expected.size:
        what = "is" if missing.size == 1 else "are"
        count = f"{missing.size} of the {expected.size} test events"
        raise DataError(f"{source}: {count} {what} missing, e.g. EventId {int(missing[0])}")


def _cells(file: Path) -> pl.DataFrame:
    """Split the lines of the file into three cells of text each."""
    zipped = first_look(file, "a submission") == "gzip"
    content = b"".join(text_chunks(file, str(file), zipped=zipped, size=1 << 20))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text") from error
    header, *lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if '"' in header and tuple(name.strip('"') for name in header.split(",")) == _COLUMNS:
        raise DataError(f"{file}: line 1: {_QUOTES} (R: write.csv(..., quote = FALSE))")
    if tuple(header.split(",")) != _COLUMNS:
        raise DataError(f"{file}: line 1 is {header[:60]!r}, expected the header {','.join(_COLUMNS)!r}")
    if not lines:
        raise DataError(f"{file}: no events: the file has a header and nothing below it")
    column = pl.Series(lines)
    fields = column.str.count_matches(",", literal=True) + 1
    wrong = fields != len(_COLUMNS)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        what = "is empty" if not lines[row].strip() else f"has {fields[row]} values, expected {len(_COLUMNS)}"
        raise DataError(f"{file}: line {row + 2} {what}")
    return column.str.split_exact(",", len(_COLUMNS) - 1).struct.rename_fields(list(_COLUMNS)).struct.unnest()


def _refuse_first(table: pl.DataFrame, bad: pl.Series, name: str, what: str, file: Path) -> None:
    if bad.any():
        row = int(bad.arg_max() or 0)
        value = str(table[name][row])
        if value[:1] == value[-1:] == '"':
            what = f"is in quotes: {_QUOTES}"
        raise DataError(f"{file}: line {row + 2}, column {name}: {value[:40]!r} {what}")


@dataclass(frozen=True)
class SubmissionScore:
    """The result of a submission on one set of events.

    Attributes:
        name: `all`, `public`, `private`, or the name of another subset.
        events: number of events; selected: how many of them are selected.
        s: selected signal, b: selected background, expected events.
        ams: the score; se: its standard error from the finite number of simulated events.
        auc: weighted ROC AUC of the rank order.
    """

    name: str
    events: int
    selected: int
    s: float
    b: float
    ams: float
    se: float
    auc: float


def score_submission(
    submission: Submission,
    truth: Events,
    *,
    subsets: Sequence[str] | None = None,
    totals: tuple[float, float] | None = None,
    b_reg: float = B_REG,
) -> list[SubmissionScore]:
    """Score a submission as the leaderboard scores a row on its held-out events.

    In each scored set, weights are rescaled per class to the reference totals.

    Args:
        submission: the submission.
        truth: labelled events. Where they carry subsets (KaggleSet), those of the sets `b` and `v` are the test events.
        subsets: subsets that are scored instead.
        totals: reference totals (N_s, N_b); those of the truth's layout or content when None.
        b_reg: regularisation of the background.

    Returns:
        The score on all test events, then on each of their subsets that has both classes, if there are several.

    Raises:
        DataError: if the events of the submission are not exactly the test events, or these have one class only.
    """
    if not truth.labelled:
        raise DataError(f"{truth.source}: no column {truth.schema.label}: without the truth nothing can be scored")
    reference = truth.totals() if totals is None else totals
    tested = events_to_score(truth, subsets)
    rows = _rows_of(submission, tested)
    parts: dict[str, NDArray[np.bool_]] = {"all": np.ones(rows.size, dtype=np.bool_)}
    names = [] if tested.subset is None else sorted(set(tested.subset.tolist()))
    if tested.subset is not None and len(names) > 1:
        parts |= {_NAMES.get(name, name): tested.subset[rows] == name for name in names}
    scores = []
    for name, members in parts.items():
        y, selected = tested.y[rows[members]], submission.selected[members]
        if not (y.any() and (~y).any()):
            if name != "all":  # too few events of a subset; the others are still scored
                continue
            raise DataError(f"{truth.source}: the {y.size} events of 'all' lack signal or background")
        w = evaluation_weights(y, tested.weight[rows[members]], *reference)
        estimate, s, b = ams_estimate(y, selected, w, b_reg)
        auc = roc_auc(y, submission.rank[members].astype(np.float64), w)
        if name == "all":
            _warn_of_reversed_ranks(submission, auc)
        count = int(selected.sum())
        scores.append(SubmissionScore(name, y.size, count, s, b, estimate.value, estimate.se, auc.value))
    return scores


def _warn_of_reversed_ranks(submission: Submission, auc: Estimate) -> None:
    """Warn where ranks contradict the classes, or rank background above signal beyond the statistical error."""
    chosen, rank = submission.selected, submission.rank
    contradicted = chosen.any() and not chosen.all() and rank[chosen].mean() < rank[~chosen].mean()
    if contradicted or auc.value + _STANDARD_ERRORS * auc.se < 0.5:
        warnings.warn(
            f"{submission.source}: RankOrder seems to be reversed (wAUC {auc.value:.3f}): the event most like signal "
            f"must have rank {rank.size} and the one least like it rank 1; the AMS does not depend on the ranks",
            HiggsbenchWarning,
            stacklevel=3,
        )


def events_to_score(truth: Events, subsets: Sequence[str] | None = None) -> Events:
    """Keep the events that are to be scored; arguments as for `score_submission`.

    Raises:
        DataError: if there is no such subset, or no events of it.
    """
    if subsets is None:
        # A file without test sets, such as a part of the training set put aside, is scored as a whole.
        tested = None if truth.subset is None else truth.in_subsets(TEST_SETS)
        return truth if tested is None or not tested.any() else truth.take(tested)
    known = truth.schema.subset_values
    for name in subsets:
        if known and name not in known:
            raise DataError(f"--subset: no set named {name!r}; sets are {', '.join(known)}")
    chosen = truth.in_subsets(subsets)
    if not chosen.any():
        raise DataError(f"{truth.source}: no events of the sets {', '.join(subsets)}")
    return truth.take(chosen)


def _rows_of(submission: Submission, truth: Events) -> NDArray[np.int64]:
    """Return, for each line of the submission, the position of its event in the truth."""
    known = truth.event_id
    order = np.argsort(known, kind="stable")
    rows = order[np.minimum(np.searchsorted(known, submission.event_id, sorter=order), known.size - 1)]
    foreign = known[rows] != submission.event_id
    if foreign.any():
        line, more = int(np.argmax(foreign)), int(foreign.sum()) - 1
        raise DataError(
            f"{submission.source}: line {line + 2}, column EventId: {submission.event_id[line]} is not one of the "
            f"{known.size} test events of {truth.source}{f'; nor are {more} others' if more else ''}"
        )
    _refuse_missing(submission.event_id, known, submission.source)
    if rows.size != known.size:  # the truth has an event twice
        raise DataError(f"{submission.source}: {rows.size} lines, but {truth.source} has {known.size} test events")
    return rows
