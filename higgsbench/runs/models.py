"""Fitted models of work units in the store: written beside the scores, read only when their checksum agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError
from higgsbench.files import file_digest
from higgsbench.models.storage import read_model

if TYPE_CHECKING:
    from higgsbench.models import ModelSpec
    from higgsbench.runs.store import RunStore

__all__ = ["load_unit_model"]


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
    from higgsbench.validation.physical import unit_codecs

    file = store.model_file(key)
    model = store.stored_model(key)
    if model is None:
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
    return read_model(file, unit_codecs(spec), threads)
