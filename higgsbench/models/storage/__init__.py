"""Fitted models on disk in formats that run no code when they are read."""

from higgsbench.models.storage.arrays import StateCodec
from higgsbench.models.storage.codec import Codec, ModelReader, ModelWriter, Node, UnstorableError
from higgsbench.models.storage.container import MembersCodec, bag_codec
from higgsbench.models.storage.file import read_model, write_model

__all__ = [
    "Codec",
    "MembersCodec",
    "ModelReader",
    "ModelWriter",
    "Node",
    "StateCodec",
    "UnstorableError",
    "bag_codec",
    "read_model",
    "write_model",
]
