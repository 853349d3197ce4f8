"""What is read of a direction: a linear read-out by hand, and trained models whose paths are known."""

from __future__ import annotations

import pytest
import torch

from interp.directions import Direction, DirectionFacts
from interp.known import open_truth
from interp.superficiality.exchanges import (
    DIRECTION,
    READABLE,
    UNREAD,
    exchanges_of,
    measure_mediation,
)
from interp.superficiality.finding import Finding
from interp.superficiality.mediation import R_IN, R_OUT, mediation_findings
from interp.superficiality.readable import part_of, project_read
from interp.superficiality.subspaces import fit_subspaces
from tests.superficiality.toy import CONTENT, toy_pairs

FACTS = DirectionFacts("mean_difference", "own", "0", 2, "0", "raw")


def test_on_a_linear_read_out_the_part_that_is_read_is_the_row_space() -> None:
    torch.manual_seed(0)
    weights = torch.randn(2, 8)
    squares = (torch.randn(40, 2) @ weights).T
    v = torch.nn.functional.normalize(torch.randn(1, 8), dim=-1)
    rows = torch.linalg.qr(weights.T).Q
    found = project_read(v, (squares @ squares.T)[None])
    assert torch.allclose(found, v @ rows @ rows.T, atol=1e-5)
    assert torch.equal(project_read(v, torch.zeros(1, 8, 8)), torch.zeros(1, 8))


def test_a_part_that_there_is_not_is_no_change_and_a_fold_without_others_has_none() -> None:
    parts = torch.stack([torch.eye(2, 4)[:, None], torch.full((2, 1, 4), float("nan"))])
    parts[0, 1] = 0.0
    read, rest = part_of(parts, 1, True), part_of(parts, 1, False)
    assert read is not None
    assert rest is not None
    assert read.norm() == 1
    assert rest.norm() == 0
    assert part_of(parts, 2, True) is None
    assert part_of(None, 0, True) is None


def rows_along(arm: str, *variables: str) -> tuple[dict[str, Finding], dict[str, float]]:
    """Rows of mediation along the mean of some variables' vectors, and shares of the runs into."""
    model, _, pairs, clusters = toy_pairs(arm)
    order = [4 * (k // 4) + (0, 2, 1, 3)[k % 4] for k in range(16)]  # both concepts in either fold
    pairs, clusters = [pairs[k] for k in order], [clusters[k] for k in order]
    truth = open_truth(arm)
    vectors = [truth.place_of(name).vector for name in variables]
    v = torch.stack([torch.as_tensor(one) for one in vectors if one is not None]).float().mean(0)
    direction = Direction(v / v.norm(), 1.0, 0.0, 0, "resid_post", FACTS)
    spaces = fit_subspaces(
        model, pairs, direction, content=CONTENT, clusters=clusters, n_covariance=0
    )
    asked = exchanges_of(spaces, detailed=False)
    runs = measure_mediation(
        model, pairs, spaces, exchanges=asked, content=CONTENT, clusters=clusters
    )
    means = runs.groupby("run")["value"].mean()
    total = means["corrected"] - means["placebo"]
    shares = {
        space: float(means[f"into behind every {space} 1"] - means["placebo"]) / total
        for space in (DIRECTION, READABLE, UNREAD)
    }
    return {row.name: row for row in mediation_findings(runs)}, shares


def test_a_dormant_path_is_the_interaction_of_what_is_read_and_what_is_not_and_is_void() -> None:
    rows, shares = rows_along("dormant_path", "shadow", "dormant")
    assert shares[DIRECTION] > 0.3
    assert abs(shares[READABLE]) + abs(shares[UNREAD]) < 0.4 * shares[DIRECTION]
    for name in (R_IN, R_OUT):
        assert not rows[name].is_read
        assert "a dormant path" in rows[name].why_not
    table = rows[R_IN].table.set_index(["space", "way", "rows"])["estimate"]
    assert table["interaction", "into", "behind"] == pytest.approx(
        shares[DIRECTION] - shares[READABLE] - shares[UNREAD]
    )


def test_a_concept_that_is_read_is_carried_by_the_part_that_is_read_alone() -> None:
    rows, shares = rows_along("deep", "concept")
    assert shares[READABLE] == pytest.approx(1, abs=0.1)
    assert shares[UNREAD] == pytest.approx(0, abs=0.05)
    for name in (R_IN, R_OUT):
        assert "dormant" not in rows[name].why_not
        assert "interaction of the parts" in rows[name].checks
