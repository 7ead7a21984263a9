"""Layer 1: reading, checking and caching events as Polars frames."""

from higgsbench.events.read import EventStream, load_events
from higgsbench.events.table import Events, content_digest

__all__ = ["EventStream", "Events", "content_digest", "load_events"]
