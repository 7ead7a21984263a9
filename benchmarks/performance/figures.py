"""Raw figures of a part as JSON, so that an interrupted part goes on, and the verdicts on them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks._common import machine
from higgsbench.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Figures", "Verdict", "verdict_lines"]


@dataclass
class Figures:
    """What a part measured so far.

    Attributes:
        file: where it is kept.
        content: measured values, JSON.
        finished: whether the part came to its end.
    """

    file: Path
    settings: dict[str, Any]
    content: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    @classmethod
    def open(cls, file: Path, settings: dict[str, Any], *, afresh: bool) -> Figures:
        """Take up what is stored, where it was measured with the same settings on the same machine.

        Args:
            file: where it is kept.
            settings: what the part measures (sizes, rounds).
            afresh: whether a finished part is measured again; an unfinished one goes on in any case.
        """
        about = json.loads(json.dumps({**settings, "machine": machine()}))
        figures = cls(file, about)
        if file.is_file():
            stored = json.loads(file.read_text())
            if stored["settings"] == about and not (afresh and stored["finished"]):
                figures.content, figures.finished = stored["figures"], stored["finished"]
        return figures

    def keep(self) -> None:
        """Store what there is."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, {"settings": self.settings, "finished": self.finished, "figures": self.content})


@dataclass(frozen=True)
class Verdict:
    """A measured value against its bound.

    Attributes:
        what: what was measured.
        value: the value.
        bound: the bound.
        at_most: whether the value may not exceed the bound; otherwise it must reach it.
        unit: of both, empty for ratios.
        cpu: the same in processor time, or None; it tells a slow program from a busy machine.
    """

    what: str
    value: float
    bound: float
    at_most: bool = True
    unit: str = ""
    cpu: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the bound holds."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def line(self) -> str:
        """One line of a table."""
        unit = f" {self.unit}" if self.unit else ""
        cpu = "" if self.cpu is None else f"{self.cpu:.2f}{unit}"
        side = "at most" if self.at_most else "at least"
        mark = "holds" if self.holds else "**does not hold**"
        return f"| {self.what} | **{self.value:.2f}**{unit} | {cpu} | {side} {self.bound:g}{unit} | {mark} |"


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Table of verdicts."""
    head = ["| | on the clock | of the processor | bound | |", "|---|---|---|---|---|"]
    return [*head, *(verdict.line() for verdict in verdicts), ""]
