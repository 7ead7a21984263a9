"""Look things up by name on first use: registered records, and public names of packages."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from higgsbench.errors import nearest_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from higgsbench.errors import HiggsbenchError


def lazy_names(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` (PEP 562), which imports a name when first used; `names` is by module."""
    home = {name: module for module, public in names.items() for name in public}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


class Registry(Generic[T]):
    """Records by name, loaded on first use; several threads may use it at once."""

    def __init__(
        self,
        kind: str,  # what a record is, in messages ("model")
        expected: type[T],
        public_name: str,  # the name that users know for that type
        builtin: Callable[[], Sequence[T]],  # returns the package's own records; called once
        group: str,  # entry points through which packages add records
        error: type[HiggsbenchError],  # raised for bad names and records
    ) -> None:
        self.kind, self.expected, self.public_name = kind, expected, public_name
        self.builtin, self.group, self.error = builtin, group, error
        self._records: dict[str, T] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def add(self, record: T, *, replace: bool = False) -> T:
        """Add a record and return it; refuse one of the wrong type, or of a name that is taken without `replace`."""
        if not isinstance(record, self.expected):
            raise self.error(f"a {self.kind} must be a {self.public_name}, got a {type(record).__name__}")
        self._load()
        if record.name in self._records and not replace:
            raise self.error(
                f"a {self.kind} named {record.name!r} is already registered; pass replace=True to replace it"
            )
        self._records[record.name] = record
        return record

    def remove(self, name: str) -> None:
        """Take a record out."""
        del self._records[name]

    def all(self) -> tuple[T, ...]:
        """Return all records, the built-in ones first."""
        self._load()
        return tuple(self._records.values())

    def get(self, name: str) -> T:
        """Return a record; if there is none of that name, the error suggests the nearest known one."""
        self._load()
        if name not in self._records:
            hint = nearest_hint(name, self._records, f"; choose from {', '.join(self._records)}")
            raise self.error(f"no {self.kind} named {name!r}{hint}")
        return self._records[name]

    def _offered(self) -> Iterator[T]:
        """Yield the records that installed packages add."""
        import importlib.metadata  # takes as long as the rest of `higgsbench --help`

        for entry in importlib.metadata.entry_points(group=self.group):
            origin = f"entry point {entry.name!r} of {entry.dist.name if entry.dist else 'an unknown package'}"
            try:
                loaded = entry.load()
            except Exception as problem:
                raise self.error(f"{origin} cannot be loaded: {type(problem).__name__}: {problem}") from problem
            if not isinstance(loaded, self.expected):
                raise self.error(f"{origin} is a {type(loaded).__name__}, expected a {self.public_name}")
            yield loaded

    def _load(self) -> None:
        """Fill the registry once; after a failure it is as empty as before."""
        with self._lock:
            # `_loading`: a package may register records while it is being loaded.
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                for record in (*self.builtin(), *self._offered()):
                    if record.name in self._records:
                        twice = f"two {self.kind}s are named {record.name!r}"
                        raise self.error(f"{twice}; rename the one that an installed package adds")
                    self._records[record.name] = record
                self._loaded = True
            except BaseException:
                self._records.clear()
                raise
            finally:
                self._loading = False
