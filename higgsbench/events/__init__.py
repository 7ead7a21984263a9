"""Floor 1: reading, checking, caching events as Polars frames."""

from higgsbench.events.read import load_events
from higgsbench.events.stream import EventStream
from higgsbench.events.table import Events, content_digest

__all__ = ["EventStream", "Events", "content_digest", "load_events"]
