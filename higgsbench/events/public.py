"""Public data sets: the address of each, and the required content of its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.errors import DataError, nearest_hint
from higgsbench.schema import ATLAS_HIGGS, FAIR_UNIVERSE, UCI_HEPMASS, UCI_HEPMASS_1000, UCI_HIGGS, UCI_SUSY

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PublicSet:
    """A public data set; its name is that of its layout.

    Attributes:
        name: name of the layout.
        title: what the file is, for messages.
        doi: DOI of its record.
        url: address of the download; `doi:.../FILE` asks the repository of the DOI for the address and the checksum.
        size: size of the download, as text.
        events: number of events, as published.
        file: name of the file in the cache.
        member: name of the file inside the zip archive that is downloaded, or empty.
        subsets: number of events in each KaggleSet.
    """

    name: str
    title: str
    doi: str
    url: str
    size: str
    events: int
    file: str
    member: str = ""
    subsets: Mapping[str, int] = field(default_factory=dict)


_UCI = "https://archive.ics.uci.edu/static/public"
_HEPMASS = ("HEPMASS of the UCI repository", "10.24432/C5PP5W", f"{_UCI}/347/hepmass.zip", "7.9 GB", 7_000_000)
_FAIR_DOI = "10.5281/zenodo.15131565"

_SETS = (
    PublicSet(ATLAS_HIGGS.name, "the CERN Open Data file", "10.7483/OPENDATA.ATLAS.ZBP2.M5T8",
              "https://opendata.cern.ch/record/328/files/atlas-higgs-challenge-2014-v2.csv.gz", "65 MB", 818_238,
              "atlas-higgs-challenge-2014-v2.csv.gz", subsets={"t": 250_000, "b": 100_000, "v": 450_000, "u": 18_238}),
    PublicSet(FAIR_UNIVERSE.name, "the data of the FAIR Universe challenge", _FAIR_DOI,
              f"doi:{_FAIR_DOI}/FAIR_Universe_HiggsML_data.zip", "6.5 GB", 220_099_101,
              "FAIR_Universe_HiggsML_data.parquet", "FAIR_Universe_HiggsML_data.parquet"),
    PublicSet(UCI_HIGGS.name, "HIGGS of the UCI repository", "10.24432/C5V312",
              f"{_UCI}/280/higgs.zip", "2.8 GB", 11_000_000, "HIGGS.csv.gz", "HIGGS.csv.gz"),
    PublicSet(UCI_SUSY.name, "SUSY of the UCI repository", "10.24432/C54606",
              f"{_UCI}/279/susy.zip", "0.9 GB", 5_000_000, "SUSY.csv.gz", "SUSY.csv.gz"),
    PublicSet(UCI_HEPMASS.name, *_HEPMASS, "HEPMASS_all_train.csv.gz", "all_train.csv.gz"),
    PublicSet(UCI_HEPMASS_1000.name, *_HEPMASS, "HEPMASS_1000_train.csv.gz", "1000_train.csv.gz"),
)  # fmt: skip

PUBLIC: Mapping[str, PublicSet] = MappingProxyType({public.name: public for public in _SETS})
"""Public data sets by name."""


def public_set(name: str) -> PublicSet:
    """Return a public data set by its name.

    Raises:
        DataError: if there is no such data set; the message lists the names.
    """
    if name not in PUBLIC:
        raise DataError(f"{name}: not a public data set{nearest_hint(name, PUBLIC)}; choose from {', '.join(PUBLIC)}")
    return PUBLIC[name]
