"""Plans: which cells a sweep runs, as data that can be printed and counted before anything runs.

A plan lists, for every cell of the result's grid and every pair, what is copied where. Cells that
cannot change the reading (causality) are known to be zero and are not run; cells of which nothing
is aligned have no value at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import pandas as pd
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name
from interp.activations.layout import Shape, require_layout
from interp.activations.sites import SITES
from interp.display import html_paragraph
from interp.errors import InterpError
from interp.patching.axis_columns import with_numbers
from interp.patching.branches import Reading
from interp.patching.cells import site_reaches
from interp.patching.grid import Grid, grid_or_keywords
from interp.patching.hooked import hook_of, supports_hook
from interp.patching.metrics import Metric, named_metrics, reading_of
from interp.patching.places import AlignedTokens, places_of
from interp.patching.positions import ALL, TokenCounts, positions_of
from interp.patching.sites import (
    HEAD_SITES,
    KEY_VALUE_SITES,
    PATCH_SITES,
    Cells,
    PatchSite,
    Positions,
    default_cells,
)
from interp.prompts import PromptPair, require_runnable
from interp.prompts.align import EQUAL_LENGTHS


@dataclass(frozen=True, eq=False)
class PlannedCell:
    """One cell of one pair: what is copied from where to where (in a knockout: keys, queries).

    ``index`` addresses the grid. ``state``: ``run`` (to be computed), ``zero`` (causality: the
    destination itself), ``empty`` (nothing aligned to copy).
    """

    pair: int
    index: tuple[int, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    source: Int[Tensor, " _source"]
    destination: Int[Tensor, " pos"]
    state: Literal["run", "zero", "empty"]


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """A sweep before it runs; ``print(plan)`` says how many cells and what they cost."""

    site: PatchSite
    axis_names: tuple[str, ...]
    axis_labels: dict[str, list[str]]
    cells: tuple[PlannedCell, ...]
    lengths: tuple[int, ...]
    """Rows of every destination: its prompt's, and those of its options where a metric reads them."""
    n_layers: int
    forward_lengths: tuple[int, ...]
    """Tokens of every destination's full forwards: one, or one per option that adds rows."""
    tokens: TokenCounts | None = None
    """How many tokens of each column are patched; None where nothing is copied (a knockout)."""
    places: tuple[AlignedTokens, ...] = ()
    """What stands at each position of the grid; empty of grids without positions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the grid, without the pairs."""
        return tuple(len(self.axis_labels[name]) for name in self.axis_names)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def to_run(self) -> list[PlannedCell]:
        """Cells that have to be computed."""
        return [cell for cell in self.cells if cell.state == "run"]

    @property
    def token_layers(self) -> int:
        """Rows times layers that the exact engine computes (of the last layer all rows)."""
        return sum(map(self.token_layers_of, self.to_run))

    def token_layers_of(self, cell: PlannedCell) -> int:
        """The same of one cell: its rows from the first that is patched on, at every later layer."""
        rows = self.lengths[cell.pair] - int(cell.destination.min())
        return rows * (self.n_layers - cell.layers[0])

    @property
    def naive_token_layers(self) -> int:
        """The same with one full forward per cell that has to be computed."""
        return sum(self.forward_lengths[cell.pair] * self.n_layers for cell in self.to_run)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell and pair: its place in the grid and what is copied."""
        rows = [
            {
                "pair": cell.pair,
                **{
                    name: self.axis_labels[name][i]
                    for name, i in zip(self.axis_names, cell.index, strict=True)
                },
                "state": cell.state,
                "layers": list(cell.layers),
                "heads": list(cell.heads),
                "source_pos": cell.source.tolist(),
                "destination_pos": cell.destination.tolist(),
            }
            for cell in self.cells
        ]
        return with_numbers(pd.DataFrame(rows)) if rows else pd.DataFrame()

    def __str__(self) -> str:
        grid = " x ".join(f"{len(self.axis_labels[n])} {n}" for n in self.axis_names)
        n_pairs = len(self.lengths)
        zero = sum(cell.state == "zero" for cell in self.cells)
        n_run = len(self.to_run)
        empty = len(self) - n_run - zero
        saving = self.naive_token_layers / max(self.token_layers, 1)
        return (
            f"{self.site}: {grid} x {n_pairs} pair{'s' * (n_pairs != 1)} = {len(self):,} cells, "
            f"{n_run:,} to run, {zero:,} zero by causality, {empty:,} without aligned "
            f"positions; {self.token_layers:,} token-layers, {saving:.1f}x fewer than one forward "
            "per cell" + self._partly()
        )

    def _partly(self) -> str:
        """The columns that are patched in part, to follow the rest; empty without any."""
        if self.tokens is None:
            return ""
        last = self.axis_names[-1]
        names = self.axis_labels[last] if last in ("pos", "span") else ["every cell"]
        partly = self.tokens.partly().nonzero()[:, 0].tolist()
        return "".join(f"; {names[k]}: {self.tokens.not_patched(k)}" for k in partly)

    def _repr_html_(self) -> str:
        return html_paragraph(self, bold=True)


@grid_or_keywords
def plan_sweep(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    grid: Grid | None = None,
    site: PatchSite = "resid_pre",
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    window: int = 1,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
) -> SweepPlan:
    """The cells of a sweep; the arguments are those of :func:`interp.patching.sweep`.

    Raises:
        InterpError: an unknown site, layer, head, span, position or metric; sites that do not fit
            the grid or the pair; a pair without options where the option margin is asked for.
    """
    if grid is None:
        grid = Grid(site, cells, layers, spans, heads, positions, window)
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to patch between: the list is empty")
    metrics, _ = named_metrics(metric)
    for pair in pairs:
        require_runnable(model, pair)
    site = grid.site or "resid_pre"
    starts = resolve_layers(model, site, grid.layers)
    if site == "edges":
        raise InterpError("edges are not copied but removed: use knockout()")
    axes_name = grid.cells or default_cells(site, len(pairs), grid.spans)
    if axes_name not in get_args(Cells):
        raise InterpError(f"no grid {axes_name!r}; known: {', '.join(get_args(Cells))}")
    axes = tuple(axes_name.split("_"))
    has_heads = site in (*HEAD_SITES, *KEY_VALUE_SITES)
    if "head" in axes and not has_heads:
        raise InterpError(f"{site} has no heads: use cells='layer_pos' or 'layer_span'")
    if site == "pattern" and not all(pair.alignment.by_index for pair in pairs):
        raise InterpError(f"patterns can be copied between equal positions only: {EQUAL_LENGTHS}")
    chosen = resolve_heads(model, site, grid.heads)
    require_site(model, site)
    columns, labels = _columns(axes, pairs, grid)
    n_layers = int(model.cfg.n_layers)
    axis_labels = {"layer": [window_label(layer, grid.window, n_layers) for layer in starts]}
    if "head" in axes:
        axis_labels["head"] = [str(head) for head in chosen]
    if axes[-1] in ("pos", "span"):
        axis_labels[axes[-1]] = labels
    sets = [(h,) for h in chosen] if "head" in axes else [chosen]
    planned = []
    readings = [reading_of(pair.destination.ids, pair, metrics) for pair in pairs]
    for number, (pair, reading) in enumerate(zip(pairs, readings, strict=True)):
        copied = [_moves(pair, column) for column in columns]
        for (i, layer), (h, subset), (k, (source, destination)) in product(
            enumerate(starts), enumerate(sets), enumerate(copied)
        ):
            place = {"layer": i, "head": h, "pos": k, "span": k}
            covered = window_layers(layer, grid.window, n_layers)
            state = _state(pair, site, covered, source, destination, reading, n_layers)
            planned.append(
                PlannedCell(
                    number,
                    tuple(place[axis] for axis in axes),
                    covered,
                    subset,
                    source,
                    destination,
                    state,
                )
            )
    return SweepPlan(
        site,
        axes,
        axis_labels,
        tuple(planned),
        tuple(len(reading) for reading in readings),
        n_layers,
        tuple(forward_length(reading) for reading in readings),
        TokenCounts.of(pairs, columns),
        _places(pairs, labels) if axes[-1] == "pos" else (),
    )


def _places(pairs: Sequence[PromptPair], labels: Sequence[str]) -> tuple[AlignedTokens, ...]:
    """What stands at the positions of an axis, ``token_index`` or ``index`` each."""
    return places_of(pairs, [int(label.rpartition("_")[2]) for label in labels])


def forward_length(reading: Reading) -> int:
    """Tokens of the model's own forwards of a reading."""
    return sum(len(forward.ids) for forward in reading.forwards)


def require_site(model: TransformerBridge, site: str) -> None:
    """Refuse a site whose hooks do not hold what is read and set there.

    Raises:
        InterpError: heads or positions lie on other axes than on other models; names the hook.
    """
    heads = n_heads(model, site)

    def wanted(n: int) -> Shape:
        if site in ("pattern", "edges"):
            return (1, heads, n, n)
        if site in (*HEAD_SITES, *KEY_VALUE_SITES):
            return (1, n, heads, 0)
        return (1, n, int(model.cfg.d_model))

    if supports_hook(model, site):
        hooks = [hook_of(site, layer) for layer in range(int(model.cfg.n_layers))]
        others = "choose resid_pre, attn_out or mlp_out" if site != "edges" else "no knockout here"
        require_layout(model, hooks, wanted, f"{site} cannot be patched on it; {others}")


def n_heads(model: TransformerBridge, site: str) -> int:
    """Heads of a site: key/value heads at ``k`` and ``v``, query heads elsewhere."""
    grouped = getattr(model.cfg, "n_key_value_heads", None)
    return int(grouped if site in KEY_VALUE_SITES and grouped else model.cfg.n_heads)


def _columns(
    axes: tuple[str, ...], pairs: Sequence[PromptPair], grid: Grid
) -> tuple[list[Positions], list[str]]:
    """The position sets that the last axis goes over, and its labels."""
    spans, positions = grid.spans, grid.positions
    if axes[-1] == "span":
        if positions != "aligned":
            raise InterpError("positions are for the other grids: name spans= with 'layer_span'")
        names = default_spans(pairs) if spans is None else list(spans)
        return list(names), names
    if spans is not None:
        raise InterpError("spans are for cells='layer_span'; name a span as positions= instead")
    if axes[-1] != "pos":
        return [positions], []
    if len({len(pair.destination) for pair in pairs}) > 1:
        raise InterpError("pairs of different lengths have no common positions: use 'layer_span'")
    everywhere = positions == "all"
    sets = [
        range(len(pair.destination)) if everywhere else positions_of(pair, positions)[1].tolist()
        for pair in pairs
    ]
    union = sorted(set().union(*sets))
    if not union:
        raise InterpError("the prompts of no pair differ at an aligned position: nothing to patch")
    prompts = [pair.destination for pair in pairs]
    labels = [
        f"{prompts[0].str_tokens[p]}_{p}"
        if len({prompt.str_tokens[p] for prompt in prompts}) == 1
        else str(p)
        for p in union
    ]
    return [[p] for p in union], labels


def _moves(pair: PromptPair, positions: Positions) -> tuple[Tensor, Tensor]:
    """What a column copies: of spans, only what can differ."""
    source, destination = positions_of(pair, positions)
    if isinstance(positions, str) and positions != "all":
        first = pair.alignment.first_difference
        keep = destination >= (len(pair.destination) if first is None else first)
        if bool(keep.any()):
            return source[keep], destination[keep]
    return source, destination


def _state(
    pair: PromptPair,
    site: str,
    layers: tuple[int, ...],
    source: Tensor,
    destination: Tensor,
    reading: Reading,
    n_layers: int,
) -> Literal["run", "zero", "empty"]:
    if not len(destination):
        return "empty" if pair.alignment.first_difference is not None else "zero"
    first = pair.alignment.first_difference
    if first is None or int(destination.max()) < first:
        return "zero"
    read = reading.read.tolist()
    reached = site_reaches(site, layers[0], destination.tolist(), read, n_layers)
    return "run" if reached else "zero"


def default_spans(pairs: Sequence[PromptPair]) -> list[str]:
    """The spans that every pair can patch at or after its first difference, then :data:`ALL`."""
    return [
        span for span in pairs[0].destination.spans if all(_reaches(p, span) for p in pairs)
    ] + [ALL]


def _reaches(pair: PromptPair, span: str) -> bool:
    first = pair.alignment.first_difference
    if span not in pair.destination.spans or first is None:
        return False
    return bool((positions_of(pair, span)[1] >= first).any())


def resolve_layers(model: TransformerBridge, site: str, layers: Sequence[int] | None) -> list[int]:
    """The layers asked for (all for None) of a known site."""
    if site not in PATCH_SITES:
        raise InterpError(f"no site {site!r}; known: {', '.join(PATCH_SITES)}")
    chosen = list(range(model.cfg.n_layers)) if layers is None else list(layers)
    for layer in chosen:
        hook_name(model, site if site in SITES else "resid_pre", layer)
    return chosen


def resolve_heads(
    model: TransformerBridge, site: str, heads: Sequence[int] | None
) -> tuple[int, ...]:
    """The heads of a site that are asked for (all for None); empty at sites without heads."""
    known = range(n_heads(model, site)) if site in (*HEAD_SITES, *KEY_VALUE_SITES) else range(0)
    if heads is None:
        return tuple(known)
    unknown = [head for head in heads if head not in known]
    if unknown:
        have = f"heads are 0..{len(known) - 1}" if known else "this site has no heads"
        raise InterpError(f"no head {unknown[0]} at {site}: {have}")
    return tuple(heads)


def window_layers(layer: int, window: int, n_layers: int) -> tuple[int, ...]:
    """The layers of a window that begins at ``layer``, cut at the last one."""
    return tuple(range(layer, min(layer + window, n_layers)))


def window_label(layer: int, window: int, n_layers: int) -> str:
    """``3`` or ``3-7``."""
    last = min(layer + window, n_layers) - 1
    return str(layer) if last == layer else f"{layer}-{last}"
