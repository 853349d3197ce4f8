from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from interp import stats
from interp.errors import InterpError


def test_streams_derive_the_same_integer_as_transformer_lens() -> None:
    from transformer_lens.utilities.statistics import derive_generator

    expected = np.random.default_rng(derive_generator(7, "layer", 3).initial_seed())
    assert stats.rng(7, "layer", 3).bytes(16) == expected.bytes(16)
    assert stats.rng(7, "layer", 3).bytes(16) != stats.rng(7, "layer", 4).bytes(16)


def test_import_does_not_pull_in_torch_or_scipy() -> None:
    code = (
        "import sys, interp.stats; print({'torch', 'scipy', 'transformer_lens'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("values", "clusters", "options", "message"),
    [
        ([1.0, 2.0], ["a"], {}, "1 cluster names for 2 items"),
        ([1.0, 2.0], ["a", None], {}, "item 1 has no cluster"),
        ([1.0, 2.0], ["a", math.nan], {}, "item 1 has no cluster"),
        ([[1.0, math.inf]], ["a", "b"], {}, r"values\[0, 1\] is infinite"),
        (np.array(1.0), ["a"], {}, "values has 0 axes"),
        ([1.0, 2.0], ["a", "b"], {"confidence": 95.0}, "confidence is 95.0"),
    ],
)
def test_refuses_what_it_cannot_average(
    values: object, clusters: list[object], options: dict[str, float], message: str
) -> None:
    with pytest.raises(InterpError, match=message):
        stats.cluster_mean(values, clusters, **options)  # type: ignore[arg-type]
