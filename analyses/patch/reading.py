"""What a map may be read as: the gates before it is interpreted, and the cells that are named."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analyses.contrast import CONTROL
from analyses.report.claims import Claim
from analyses.report.prose import sentences
from analyses.report.verdicts import control_works, untested
from interp.patching import SweepResult
from interp.patching.localising import is_ceiling, is_localising, patches_everything
from interp.stats import ALPHA
from interp.viz.grids import cell_name

_MOST_NAMED = 6


def read_map(
    condition: str,
    result: SweepResult,
    claim: Claim,
    *,
    control: tuple[SweepResult, Claim] | None,
    n_maps: int = 1,
) -> list[str]:
    """What one site's map says, once the gates are passed, and the notes of its result.

    ``claim``: the effect to localise. ``control``: the positive control's map and its claim, also where
    it is the condition itself; None where none was run. ``n_maps``: sites of the report, whose maps are
    one family.
    """
    readings = []
    if control is not None and condition != CONTROL:
        copying = "Positive control (a map of copying)"
        readings.append(f"{copying}: {_surviving(control[0], n_maps)}.")
    held = held_back(claim, control, n_maps=n_maps)
    readings.append(held or f"{condition.capitalize()}: {_surviving(result, n_maps)}.")
    return readings + sentences(result.notes)


def held_back(claim: Claim, control: tuple[SweepResult, Claim] | None, *, n_maps: int = 1) -> str:
    """Why a condition's map is not interpreted; empty where it is. See :func:`read_map`."""
    if control is None:
        return "No positive control was run, so the map is shown but not interpreted."
    if not control_works(control[1]):
        return (
            "Naming the answer shows no effect (see above): the map is shown but not interpreted."
        )
    if not surviving_cells(control[0], n_maps).any():
        return "The positive control's map shows nothing: no map is interpreted."
    if not claim.is_effect:
        return "Without an effect to localise, the map is shown but not interpreted."
    return ""


def surviving_cells(result: SweepResult, n_maps: int) -> npt.NDArray[np.bool_]:
    """Cells with p < .05 over all maps: max-t in each, Bonferroni over maps.

    Those that locate nothing or are patched in part are none of them.
    """
    if untested(result.total()):
        return np.zeros(len(result.index_df), dtype=bool)
    p = np.asarray(result.max_t().p_corrected, dtype=float).reshape(-1)
    return np.asarray((p * n_maps < ALPHA) & is_localising(result))


def _surviving(result: SweepResult, n_maps: int) -> str:
    """The cells that differ from zero with all cells corrected for, the largest by name."""
    blocked = untested(result.total())
    if blocked:
        return f"no cell is named, {blocked}"
    free = is_localising(result)
    if not free.any():
        return "no cell is named, since all are patched in part"
    kept = np.flatnonzero(surviving_cells(result, n_maps))
    over = "all cells" if n_maps == 1 else f"all cells of {n_maps} maps"
    if not len(kept):
        return f"no cell differs from zero with {over} corrected for"
    test = result.max_t()
    effect, low, high = (
        np.asarray(v, dtype=float).reshape(-1) for v in (test.estimate, test.low, test.high)
    )
    order = kept[np.argsort(-np.abs(effect[kept]), kind="stable")][:_MOST_NAMED]
    rows = result.index_df.to_dict("records")
    cells = "; ".join(
        f"{cell_name(rows[k])} {effect[k]:+.3f} [{low[k]:.3f}, {high[k]:.3f}]" for k in order
    )
    some = "the largest are " if len(kept) > len(order) else ""
    everything = "ceiling column" if is_ceiling(result).any() else "column of everything"
    aside = [f"the {everything}"] if patches_everything(result).any() else []
    aside += ["spans that are patched in part"] if result.partly_patched().any() else []
    ceiling = f", {' and '.join(aside)} aside," if aside else ""
    return (
        f"{len(kept)} of {int(free.sum())} cells{ceiling} differ from zero with {over} corrected for "
        f"(simultaneous 95 % intervals): {some}{cells}"
    )
