from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.superficiality.finding import HealthCheck
from interp.superficiality.mediation import (
    ADDED_UP,
    BEYOND,
    DIRECTION,
    ORACLE,
    ORTHOGONAL,
    R_IN,
    R_OUT,
    SPANS,
    WHOLE,
    Exchange,
    exchanges_of,
    measure_mediation,
    mediation_findings,
)
from interp.superficiality.subspaces import Subspaces, fit_subspaces
from tests.superficiality.test_rows import ITEMS, by_name, runs_of
from tests.superficiality.toy import CONTENT, item_pairs, toy_direction, toy_pairs

WAYS = ("into", "out")
ASKED = [Exchange(s, way=w) for s in (DIRECTION, ORACLE) for w in WAYS] + [
    Exchange(s, rows=rows) for s in (ORTHOGONAL, WHOLE) for rows in ("behind", "all")
]  # fmt: skip


def share_of(name: str) -> dict[str, float]:
    model, task, pairs, clusters = toy_pairs(name, n=6)
    v = toy_direction(model, task)
    spaces = fit_subspaces(model, pairs, v, content=CONTENT, clusters=clusters, n_covariance=0)
    runs = measure_mediation(
        model, pairs, spaces, exchanges=ASKED, content=CONTENT, clusters=clusters
    )
    means = runs.groupby("run")["value"].mean()
    total = means["corrected"] - means["placebo"]
    return {run: float((means[run] - means["placebo"]) / total) for run in means.index}


def test_a_rewritten_concept_is_carried_along_its_direction_both_ways() -> None:
    found = share_of("deep")
    assert found[Exchange(DIRECTION).run] == pytest.approx(1, abs=0.05)
    assert found[Exchange(ORACLE).run] == pytest.approx(1, abs=0.05)
    assert found[Exchange(DIRECTION, way="out").run] == pytest.approx(0, abs=0.05)
    assert found[Exchange(WHOLE, rows="all").run] == pytest.approx(1, abs=1e-4)


def test_a_shifted_answer_is_not_carried_along_the_concepts_direction() -> None:
    found = share_of("superficial")
    assert found[Exchange(DIRECTION).run] == pytest.approx(0, abs=0.1)
    assert found[Exchange(ORTHOGONAL).run] == pytest.approx(1, abs=0.1)
    assert found[Exchange(ORACLE).run] > 0.9


def spaces_of(model: Any, n: int) -> Subspaces:
    """A random direction at every layer, a span of two, an oracle and a null."""
    torch.manual_seed(0)
    n_layers, d = int(model.cfg.n_layers), int(model.cfg.d_model)
    span = torch.linalg.qr(torch.randn(n_layers, d, 2)).Q.mT.contiguous()
    oracles = {rows: span[None].expand(4, -1, -1, -1) for rows in ("all", "behind")}
    places = tuple(range(1, n_layers + 1))
    return Subspaces(places, 2, span, oracles, (0,) * n, {"tense": span[:, 1]})


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_along_and_orthogonal_are_the_source_run(load_tiny: Any, architecture: str) -> None:
    """From the first difference on, at every layer; and the slow way gives the same numbers."""
    model = load_tiny(architecture)
    pairs = item_pairs(model, 1)
    spaces = spaces_of(model, 1)
    asked = [Exchange(WHOLE, rows="all"), Exchange(DIRECTION, 2), Exchange("tense")]
    fast, slow = (
        measure_mediation(model, pairs, spaces, exchanges=asked, method=method)  # type: ignore[arg-type]
        for method in ("exact", "hooked")
    )
    of = fast.pivot(index="metric", columns="run", values="value")
    assert (of[asked[0].run] - of["corrected"]).abs().max() < 1e-4
    assert (of[asked[1].run] - of["placebo"]).abs().max() > 1e-3
    assert (fast["value"] - slow["value"]).abs().max() < 1e-4


def test_on_a_linear_read_out_along_and_orthogonal_add_up_exactly(tiny_model: Any) -> None:
    """Behind the last layer the stream is read by a norm and the unembedding; without the norm by a
    matrix, and the parts of what is read add up."""
    pair = item_pairs(tiny_model, 1)[0]
    with torch.no_grad():
        _, there = tiny_model.run_with_cache(pair.source.ids[None])
        _, here = tiny_model.run_with_cache(pair.destination.ids[None])
    last = f"blocks.{tiny_model.cfg.n_layers - 1}.hook_resid_post"
    source, own = there[last][0, -1], here[last][0, -1]
    assert pair.target is not None
    read = (tiny_model.W_U[:, pair.target.a] - tiny_model.W_U[:, pair.target.b]).detach()
    basis = spaces_of(tiny_model, 1).span[-1]
    parts = [
        Patch(0, "resid_post", torch.tensor([0]), source[None], vector=basis, orthogonal=side)
        for side in (False, True)
    ]
    moved = [float((part.apply(own[None])[0] - own) @ read) for part in parts]
    assert sum(moved) == pytest.approx(float((source - own) @ read), abs=1e-4)


def test_places_beyond_the_model_and_groups_that_do_not_match_are_refused(tiny_model: Any) -> None:
    pairs, spaces = item_pairs(tiny_model, 1), spaces_of(tiny_model, 2)
    with pytest.raises(InterpError, match="2 groups of oracles for 1 pairs"):
        measure_mediation(tiny_model, pairs, spaces)


def table(direction: float, oracle: float, *, noise: float = 0.0, **more: Any) -> pd.DataFrame:
    """Runs of 12 pairs with an effect of 4: what direction and oracle bring, both ways."""
    generator = np.random.default_rng(0)
    wobble = noise * generator.normal(size=len(ITEMS))
    runs = {"placebo": 0.0, "corrected": 4.0, **more}
    for space, part in ((DIRECTION, direction), (ORACLE, oracle)):
        runs[Exchange(space).run] = 4 * part + wobble
        runs[Exchange(space, way="out").run] = 4 * (1 - part) + wobble
        for k in (2, 4):
            runs[Exchange(space, k).run] = 4 * part + 0.05 * k
    runs |= {Exchange(WHOLE, rows=rows).run: 4.0 for rows in ("behind", "all")}
    runs[Exchange(DIRECTION, rows="all").run] = 4 * direction
    runs[Exchange(ORTHOGONAL, rows="all").run] = 4.0
    runs |= {Exchange(name).run: value for name, value in (("tense", 0.4), ("number", -0.8))}
    return runs_of(runs)


def test_r_is_the_ratio_of_shares_and_the_other_rows_are_what_they_say() -> None:
    found: Any = by_name(mediation_findings(table(0.3, 0.6)))
    assert found[R_IN].interval.estimate == pytest.approx(0.5)
    assert found[R_OUT].interval.estimate == pytest.approx(0.5)
    assert found[R_IN].is_read
    assert found[SPANS].interval.estimate == pytest.approx(1.4 / 2.6)  # k = 4
    assert found[ADDED_UP].interval.estimate == pytest.approx(0.3)
    assert found[BEYOND].interval.estimate == pytest.approx(0.3 - 0.2)
    settings = found[R_IN].table.set_index(["space", "k", "way", "rows"])["estimate"]
    assert settings[ORACLE, 1, "out", "behind"] == pytest.approx(0.6)


def test_nothing_is_read_without_an_instrument_an_oracle_or_with_cancellation() -> None:
    bad = HealthCheck("instrument", 0.5, False, "instrument not valid")
    assert not any(one.is_read for one in mediation_findings(table(0.3, 0.6), instrument=bad))
    weak: Any = by_name(mediation_findings(table(0.1, 0.2)))
    assert "the oracle carries 20 %" in weak[R_IN].why_not
    assert "no rank" in weak[SPANS].why_not
    over: Any = by_name(mediation_findings(table(1.4, 0.9)))
    assert "cancelled" in over[R_IN].why_not
    broken = table(0.3, 0.6)
    broken.loc[broken["run"] == Exchange(WHOLE, rows="all").run, "value"] = 3.9
    assert "miss the corrected run" in mediation_findings(broken)[0].why_not


def test_a_card_asks_every_exchange_once(tiny_model: Any) -> None:
    asked = exchanges_of(spaces_of(tiny_model, 1))
    runs = [one.run for one in asked]
    assert len(set(runs)) == len(runs)
    assert Exchange("tense") in asked
    few = exchanges_of(spaces_of(tiny_model, 1), spans=False, detailed=False)
    assert Exchange("tense") not in few
    assert {one.k for one in few} == {1}
    assert {one.k for one in asked} == {1, 2}
