"""Fitted models of work units in the store: written beside the scores, read only when their checksum agrees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError
from higgsbench.files import file_digest, read_sealed
from higgsbench.models.storage import UnstorableError, bag_codec, read_model, write_model

if TYPE_CHECKING:
    from higgsbench.models import ModelSpec
    from higgsbench.models.storage import Codec
    from higgsbench.runs.store import RunStore

__all__ = ["load_unit_model", "save_unit_model"]


def _codecs(spec: ModelSpec) -> tuple[Codec, ...]:
    from higgsbench.validation.physical import JetSplitCodec, PhysicalCodec

    return (PhysicalCodec(spec.log_odds), JetSplitCodec(spec.log_odds), bag_codec(spec.log_odds), *spec.codecs)


def save_unit_model(estimator: Any, spec: ModelSpec, file: str) -> str:
    """Write the fitted meta-estimator of a unit.

    Args:
        estimator: the meta-estimator.
        spec: the model's record.
        file: where to write.

    Returns:
        Why the model cannot be stored; empty when it is.

    Raises:
        OSError: if the disk refuses.
    """
    try:
        write_model(estimator, Path(file), _codecs(spec))
    except UnstorableError as error:
        return str(error)
    return ""


def load_unit_model(store: RunStore, key: str, spec: ModelSpec, threads: int) -> Any:
    """Read the model of a finished unit.

    Args:
        store: the run's files.
        key: the unit.
        spec: the model's record in the registry of this process.
        threads: threads it may use.

    Raises:
        StoreError: if there is no such model, or the file is damaged or holds what is not allowed.
    """
    file = store.model_file(key)
    model = store.stored_model(key)
    if model is None:
        _check_marker(store.units / f"{key}.json")
        raise StoreError(
            f"{store.folder}: the fitted models are not stored; run the same configuration again with "
            "`store_models: true`"
        )
    if model.checksum is None:
        raise StoreError(f"{store.folder}: model {spec.name!r} was not stored: {model.reason}")
    if file.is_symlink():
        raise StoreError(f"{file}: a link; stored models are files of the run itself")
    try:
        digest = file_digest(file)
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    if digest != model.checksum:
        raise StoreError(f"{file}: damaged: its checksum is not the one in {key}.json; run the configuration again")
    return read_model(file, _codecs(spec), threads)


def _check_marker(marker: Path) -> None:
    """Tell a damaged marker from one that speaks of no model.

    Raises:
        StoreError: if it is damaged.
    """
    try:
        read_sealed(marker)
    except (OSError, StoreError) as error:
        raise StoreError(f"{marker}: missing or damaged; run the configuration again") from error
