from __future__ import annotations

import pytest

from rllib_dapo.run.search.search_spaces import quantile


def test_a_quantile_of_a_space_lies_where_it_should() -> None:
    assert quantile({"uniform": [1.0, 3.0]}, 0.25) == 1.5
    assert quantile({"loguniform": [0.01, 1.0]}, 0.5) == pytest.approx(0.1)
    assert [quantile({"choice": [1.0, 2.0, 4.0]}, share) for share in (0.0, 0.34, 0.99)] == [
        1.0,
        2.0,
        4.0,
    ]
