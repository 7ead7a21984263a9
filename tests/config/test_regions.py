"""The configuration of the statistical model."""

from __future__ import annotations

from typing import Any

import pytest

from higgsbench.config.load import load_config
from higgsbench.errors import ConfigError


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"regions": [{"name": "S R"}]}, r"regions\[0\].name: name 'S R': use 1 to 40 letters"),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "regions: the name 'a' is used twice"),
        ({"regions": [{"name": "a", "select": "x ="}]}, r"regions\[0\].select: 'x ='"),
        ({"regions": [{"name": "a", "edges": [1, 1]}]}, r"regions\[0\].edges: the edges must be in ascending order"),
        ({"regions": [{"name": "a", "edges": [1, 2], "bins": 3}]}, r"regions\[0\].bins: .*remove one"),
        ({"regions": None, "systematics": [{"name": "a", "norm": 0.1}]}, "systematics: `systematics` needs `regions`"),
        (
            {"systematics": [{"name": "a", "shift": "tss=1"}]},
            r"systematics\[0\].shift: 'tss=1': no built-in shift 'tss'",
        ),
        ({"systematics": [{"name": "a", "shift": "tes"}]}, r"systematics\[0\].shift: 'tes': write NAME=SIZE"),
        ({"systematics": [{"name": "a", "shift": "tes=a,b"}]}, r"systematics\[0\].shift: .* under the key `files`"),
        ({"systematics": [{"name": "a"}]}, r"systematics\[0\]: expected one of the keys shift, .* got none"),
        ({"systematics": [{"name": "a", "norm": 0.1, "shift": "tes=0.1"}]}, "got shift and norm"),
        ({"systematics": [{"name": "a", "norm": -0.1}]}, r"systematics\[0\].norm: expected a list"),
        ({"systematics": [{"name": "a", "free": True}]}, r"systematics\[0\].free: .*needs `processes`"),
        ({"systematics": [{"name": "mu", "norm": 0.1}]}, r"systematics\[0\].name: .*avoid mu"),
        ({"systematics": [{"name": "a", "norm": 0.1}, {"name": "a", "norm": 0.2, "processes": "Z"}]}, "different"),
    ],
)
def test_a_wrong_model_is_refused_in_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_config({"models": ["logistic"], "regions": [{"name": "SR"}], **keys})
    assert "\n" not in str(error.value)
