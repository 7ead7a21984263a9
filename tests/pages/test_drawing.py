"""What drawing does to the libraries it uses."""

from __future__ import annotations

import logging

import pytest

from higgsbench.pages import drawing


def test_a_temporary_cache_of_matplotlib_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Regression: without a home directory, every report began with a warning about the cache."""
    pytest.importorskip("mplhep")
    with drawing.style():
        logger = logging.getLogger("matplotlib")
        logger.warning("mkdir -p failed for path %s: %s", "a", "b")
        logger.warning("Matplotlib created a temporary cache directory at %s because there was %s", "a", "b")
        logger.warning("something else")
    assert caplog.messages == ["something else"]
