"""Whether the exact engine computes what a model computes, layer by layer.

For every layer that some cells need, the model's own block runs on the whole unpatched prompt with the
hooks of one patch, and the engine's block on the rows from that patch on; the states that come out are
compared. Since each layer starts from the model's own states, no layer is judged by another: one
without rotary positions, with a window or a sink is seen whatever lies around it. The last norm and the
unembedding are compared as well, and one cell that enters at the first layer is run both ways to the
end.

The measure is rounding. States may differ by 64 units in the last place of their row, or, where the
block itself amplifies rounding, by 8 times what the model's block loses against float64. Half
precision is compared in float32, from the same weights, so that its coarse rounding hides nothing.

Rows of branches (:mod:`interp.patching.branches`) are compared with those of the model's block on each
of its own forwards, prompt + branch: their positions, windows and masks are the model's there.

What was compared is remembered per state of the model, kind of patch and layer, with the length of the
prompt: a longer prompt, another layer or a new hook is compared anew, and so are branches where only
plain prompts were.

Cost: about one forward of the longest prompt, and one of the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.precision import weights_of, widened, widened_values, wider
from interp.models.verdicts import State, model_state, remembered
from interp.patching.blocks import final_logits, run_block, run_last_block, shared_keys_values
from interp.patching.branches import patches_in
from interp.patching.cells import Cell, Patch
from interp.patching.hooked import patch_hooks, supports_hook
from interp.patching.rows import Group, RecordedForward, RowWrite, UnpatchedRun, apply_writes

_ULPS = 64
_AMPLIFIED = 8
_UNPATCHED = ""
_Key: TypeAlias = tuple[str, int, bool]


@dataclass
class Covered:
    """By kind of patch, layer and whether with branches, the longest prompt that was compared; and
    what disagreed."""

    lengths: dict[_Key, int] = field(default_factory=dict)
    disagreed: dict[_Key, str] = field(default_factory=dict)

    def includes(self, case: _Case) -> bool:
        """Whether the case was compared in a prompt of its length."""
        return self.lengths.get(case.key, 0) >= case.run.n_positions

    def add(self, case: _Case, *, with_rest: bool) -> None:
        """A case that agreed, ``with_rest`` also the rows that its patch leaves as they are."""
        rest = replace(case, kind=_UNPATCHED).key
        for key in {case.key, rest} if with_rest else {case.key}:
            self.lengths[key] = max(self.lengths.get(key, 0), case.run.n_positions)


@dataclass(frozen=True, eq=False)
class _Case:
    """A comparison: one layer of the run of a prompt, with the patches of a cell there."""

    run: UnpatchedRun
    layer: int
    kind: str
    start: int
    patches: tuple[Patch, ...] = ()
    widened: bool = False

    @property
    def key(self) -> _Key:
        """What a verdict about it is remembered under."""
        return self.kind, self.layer, self.run.branched


class _Acting:
    """Hooks of many cases on a model, of which one case's act at a time and otherwise none."""

    _now: tuple[_Key, int] | None = None

    def hooks(self, cases: Sequence[_Case]) -> list[tuple[str, Callable[..., Any]]]:
        """Hooks of all patches; each acts while a forward of its case is :meth:`on`."""
        return [
            (name, self._only((case.key, number), hook))
            for case in cases
            for number, forward in enumerate(case.run.forwards)
            for name, hook in patch_hooks(patches_in(case.patches, forward.rows))
        ]

    def _only(self, when: tuple[_Key, int], apply: Callable[..., Any]) -> Callable[..., Any]:
        def act(activation: Tensor, hook: Any) -> Any:  # named as TransformerLens passes it
            return apply(activation, hook) if self._now == when else None

        return act

    @contextmanager
    def on(self, case: _Case, forward: int) -> Iterator[None]:
        """The case's hooks for one of the forwards act."""
        self._now = case.key, forward
        try:
            yield
        finally:
            self._now = None


def covered_by(model: TransformerBridge, state: State) -> Covered:
    """What has been compared in a state of the model."""
    found: Covered = remembered(model, ("exact engine", state), Covered)
    return found


def kind_of(patch: Patch) -> str:
    """What a comparison of one patch covers, besides its layer."""
    return patch.site if patch.vector is None else f"part of {patch.site}"


@torch.no_grad()
def compare_layers(
    model: TransformerBridge,
    runs: Sequence[UnpatchedRun],
    cells: Sequence[Cell],
    state: State | None = None,
) -> str:
    """Compare what the cells need and was not compared yet; what disagrees, or the empty string.

    ``state``: the model's, where the caller has it already.
    """
    covered = covered_by(model, model_state(model) if state is None else state)
    cases = list(_cases(model, runs, cells))
    for case in cases:
        if case.key in covered.disagreed:
            return covered.disagreed[case.key]
    cases = [case for case in cases if not covered.includes(case)]
    if not cases:
        return ""
    acting = _Acting()
    try:
        # once for all layers: to find a hook by its name takes as long as a small block
        with model.hooks(fwd_hooks=acting.hooks(cases)):
            return _compare_all(model, cases, covered, acting)
    except Exception as trouble:  # a model without such a hook
        return f"the hooks of {cases[0].kind or 'a layer'} ended in {type(trouble).__name__}"


def _compare_all(
    model: TransformerBridge, cases: Sequence[_Case], covered: Covered, acting: _Acting
) -> str:
    for case in cases:
        if covered.includes(case):  # beside a patch that was compared at this layer
            continue
        reason = _compare(model, case, acting)
        if reason:
            covered.disagreed[case.key] = reason
            return reason
        covered.add(case, with_rest=case.layer < int(model.cfg.n_layers) - 1)
    return ""


def _cases(
    model: TransformerBridge, runs: Sequence[UnpatchedRun], cells: Sequence[Cell]
) -> Iterator[_Case]:
    """Those of plain runs, then those of runs with branches."""
    for branched in (False, True):
        some = [cell for cell in cells if runs[cell.run].branched == branched]
        if some:
            yield from _cases_alike(model, runs, some)


def _cases_alike(
    model: TransformerBridge, runs: Sequence[UnpatchedRun], cells: Sequence[Cell]
) -> Iterator[_Case]:
    """Per kind and layer the first cell in the longest prompt, then the layers without patches."""
    n_layers = int(model.cfg.n_layers)
    ranked = sorted(cells, key=lambda cell: (-runs[cell.run].n_positions, cell.start))
    chosen: dict[tuple[int, str], tuple[Cell, Patch]] = {}
    for cell in ranked:
        for patch in cell.patches:
            if supports_hook(model, patch.site):
                chosen.setdefault((patch.layer, kind_of(patch)), (cell, patch))
    first = min(cell.layer for cell in cells)
    longest = runs[ranked[0].run]
    patched = sorted(chosen)
    for layer in range(first, n_layers):
        for _, kind in [key for key in patched if key[0] == layer]:
            cell, patch = chosen[layer, kind]
            yield _Case(runs[cell.run], layer, kind, int(patch.positions.min()), (patch,))
        yield _Case(longest, layer, _UNPATCHED, min(ranked[0].start, len(longest.ids) - 1))


def _compare(model: TransformerBridge, case: _Case, acting: _Acting) -> str:
    dtype = wider(model.cfg.dtype)
    try:
        with _in_type(model, case, dtype) as wide:
            expected = _by_model(model, wide, acting)
            error = _error(_by_engine(model, wide), expected)
            allowed = _ULPS * torch.finfo(dtype).eps
            if not error <= allowed and dtype != torch.float64:
                with _in_type(model, case, torch.float64) as exact:
                    allowed = _AMPLIFIED * _error(
                        [expected[0]], [_by_model(model, exact, acting)[0]]
                    )
    except Exception as trouble:  # whatever a model or a user's hook makes of flat rows
        return f"layer {case.layer} ended in {type(trouble).__name__}"
    if error <= allowed:
        return ""
    site = f" with {case.kind} patched" if case.kind else ""
    return (
        f"layer {case.layer}{site} came out {error:.1e} of the state's norm apart, rounding allows "
        f"{allowed:.1e}"
    )


def _error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest distance of two rows, relative to the norm of the expected one."""
    distance = torch.cat(
        [(a.double() - b.double()).norm(dim=-1) for a, b in zip(found, expected, strict=True)]
    )
    norm = torch.cat([b.double().norm(dim=-1) for b in expected])
    return float((distance / norm.clamp_min(1e-30)).max())


@contextmanager
def _in_type(model: TransformerBridge, case: _Case, dtype: torch.dtype) -> Iterator[_Case]:
    """The case with its block and all that goes into it in another type."""
    run, layer = case.run, case.layer
    if dtype == run.resid.dtype:
        yield case
        return
    n_layers = int(model.cfg.n_layers)
    args, kwargs = run.calls[layer]
    call = (tuple(widened_values(args, dtype)), widened_values(dict(kwargs), dtype))
    forwards = tuple(
        RecordedForward(
            forward.rows,
            ((tuple(widened_values(a, dtype)), widened_values(dict(k), dtype)),) * n_layers,
        )
        for forward in run.forwards
        for a, k in [forward.calls[layer]]
    )
    wide = replace(
        run,
        forwards=forwards,
        resid=run.resid[layer].to(dtype)[None].expand(n_layers + 1, -1, -1),
        masks=(_mask(run.masks[layer], dtype),) * n_layers,
        calls=(call,) * n_layers,
    )
    with widened(weights_of(model.blocks[layer]), dtype):
        keys, values = shared_keys_values(model.blocks[layer], wide.resid[layer], call[1])
        wide = replace(wide, keys=(keys,) * n_layers, values=(values,) * n_layers)
        yield replace(case, run=wide, widened=True)


def _mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask != 0, torch.finfo(dtype).min)


def _by_model(model: TransformerBridge, case: _Case, acting: _Acting) -> list[Tensor]:
    """The rows from the start of the case on, then some before it, by the model's own block."""
    run, layer = case.run, case.layer
    if not case.patches and not case.widened and not run.branched:
        out = run.resid[layer + 1]  # the unpatched run's own
    else:
        out = torch.empty_like(run.resid[layer])
        # of several forwards (branches behind one prompt) each gives its own rows
        for number, forward in enumerate(run.forwards):
            args, kwargs = forward.calls[layer]
            rows = forward.rows.to(out.device)
            with acting.on(case, number):
                result = model.blocks[layer](run.resid[layer][rows][None], *args, **kwargs)
            out[rows] = (result[0] if isinstance(result, tuple) else result)[0]
    return [out[case.start :], out[_before(case)]]


def _before(case: _Case) -> slice:
    """A few rows in front of the patch; they are computed beside the others."""
    return slice(max(0, case.start - 3), case.start)


def _by_engine(model: TransformerBridge, case: _Case) -> list[Tensor]:
    """The same rows by the engine's."""
    run, layer = case.run, case.layer
    n = len(run.ids)
    groups = [Group(run, case.start, n, (0,))]
    before = _before(case)
    if before.stop > before.start:
        groups.append(Group(run, before.start, before.stop, (1,)))
    hidden = torch.cat([run.resid[layer, group.start : group.stop] for group in groups])
    writes = [RowWrite(patch, 0, 0, 0) for patch in case.patches]
    hidden = apply_writes(hidden, writes, groups, "resid_pre")
    writes = [write for write in writes if write.patch.site != "resid_pre"]
    if layer == int(model.cfg.n_layers) - 1 and not writes:
        read = [torch.arange(group.n) for group in groups]
        out = run_last_block(model, layer, hidden, groups, read)
    else:
        out = run_block(model, layer, hidden, groups, writes)
    first = groups[0].rows
    return [out[:first], out[first:]]


@torch.no_grad()
def compare_logits(model: TransformerBridge, runs: Sequence[UnpatchedRun], tolerance: float) -> str:
    """Whether the last norm and the unembedding give the unpatched prompts' own logits."""
    for run in runs:
        rows = run.read.to(run.resid.device)
        found: Float[Tensor, "read d_vocab"] = final_logits(model, run.resid[-1][rows])
        expected = run.logits
        scale = float((expected.max() - expected.min()).clamp_min(1e-12))
        error = float((found - expected).abs().max()) / scale
        if not error <= tolerance:
            return f"the logits came out {error:.1e} of their range apart"
    return ""
