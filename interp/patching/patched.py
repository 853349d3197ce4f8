"""Patched runs of some prompts: the fast way where it is right, the slow way elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.by_row import hooks_act_by_row
from interp.models.limits import out_of_memory, require_finite
from interp.models.packed import TOLERANCE
from interp.models.verdicts import model_state, remembered
from interp.patching.agreement import compare_layers, compare_logits, kind_of
from interp.patching.blocks import NotFastError
from interp.patching.branches import Reading, over_all_keys, readings_of
from interp.patching.cells import Cell, Patch, reaches
from interp.patching.hooked import require_one_prompt, run_reading, supports_hook
from interp.patching.recorded import record_reading
from interp.patching.rows import UnpatchedRun
from interp.patching.sites import SweepMethod
from interp.patching.wavefront import Consume, least_bytes, run_cells

MAX_BYTES = 1 << 30
"""Default budget: the unpatched runs, the rows of the patched ones, and a block's working memory."""

_RESERVE = 16 << 20
"""What the allocator and the matrix library hold besides our tensors (measured: 6 to 9 MiB)."""

_Advance: TypeAlias = Callable[[int], object]


class PatchedRuns:
    """Some unpatched prompts, and patched runs of them on demand.

    ``logits[k]`` are prompt k's own logits at the rows read. ``notes`` says how the numbers came
    about when not the fast way.

    Args:
        model: a bridge in evaluation mode.
        prompts: token ids.
        read: for each prompt the ascending rows whose logits are wanted; without branches a row is a
            position.
        branches: for each prompt the continuations that are teacher-forced behind it, each behind
            the prompt alone; their rows follow the prompt's, in order. Patches may address them.
        method: ``"exact"`` or ``"hooked"``.
        max_bytes: memory budget.
    """

    def __init__(
        self,
        model: TransformerBridge,
        prompts: Sequence[Int[Tensor, " _pos"]],
        read: Sequence[Int[Tensor, " _read"]],
        *,
        branches: Sequence[tuple[Int[Tensor, " _more"], ...]] | None = None,
        method: SweepMethod = "exact",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.readings = readings_of(prompts, read, branches)
        self._state = model_state(model)
        self.notes: list[str] = []
        self._runs: list[UnpatchedRun] | None = None
        if method not in get_args(SweepMethod):
            raise InterpError(f"no method {method!r}; known: {', '.join(get_args(SweepMethod))}")
        for reading in self.readings:
            require_one_prompt(model, reading)
        sequences = [forward.ids for reading in self.readings for forward in reading.forwards]
        if method == "exact" and not hooks_act_by_row(model, sequences):
            self._give_up("a hook on the model addresses positions, or only looks on")
        elif method == "exact":
            try:
                self._runs = [record_reading(model, reading) for reading in self.readings]
            except NotFastError as reason:
                self._give_up(str(reason))
            except InterpError:
                raise
            # attention of another build (compressed keys, say) lacks modules that the engine asks for
            except Exception as error:
                if out_of_memory(error):
                    raise
                name = type(model.original_model).__name__
                kind = type(error).__name__
                self._give_up(f"it does not know the attention of {name}: {kind}")
        if self._runs is not None:
            self.logits = [run.logits for run in self._runs]
        else:
            self.logits = [run_reading(model, reading) for reading in self.readings]
        for k, logits in enumerate(self.logits):
            require_finite(logits, "the logits", f"prompt {k}")

    @classmethod
    def of_readings(
        cls,
        model: TransformerBridge,
        readings: Sequence[Reading],
        *,
        method: SweepMethod = "exact",
        max_bytes: int = MAX_BYTES,
    ) -> PatchedRuns:
        """Runs of prompts that stand together with what is read of them; arguments as the class's."""
        return cls(
            model,
            [reading.prompt for reading in readings],
            [reading.read for reading in readings],
            branches=[reading.branches for reading in readings],
            method=method,
            max_bytes=max_bytes,
        )

    def residual(self, number: int) -> Float[Tensor, "layer row d_model"] | None:
        """Prompt ``number``'s stream before every layer and behind the last, where it was recorded."""
        return None if self._runs is None else self._runs[number].resid

    def run(
        self, cells: Sequence[Cell], consume: Consume, *, advance: _Advance = lambda rows: None
    ) -> None:
        """Hand the logits ``[cell, read, d_vocab]`` of every cell to ``consume``, in any order.

        When memory runs out, the budget is halved and what is not finished is run again.

        Raises:
            InterpError: a budget too small for one cell, or logits that are not finite.
        """
        n_layers = int(self.model.cfg.n_layers)
        cells = [self._over_all_keys(cell) for cell in cells]
        reaching = []
        for index, cell in enumerate(cells):
            if reaches(cell, self.readings[cell.run].read.tolist(), n_layers):
                reaching.append(index)
            else:
                consume([index], self.logits[cell.run][None])
        chosen = [cells[index] for index in reaching]
        if not chosen:
            return

        def checked(numbers: list[int], logits: Tensor) -> None:
            indices = [reaching[number] for number in numbers]
            require_finite(logits, "the logits", f"patched run {indices[0]}")
            consume(indices, logits)

        if self._runs is not None and self._agrees(chosen):
            self._run_fast(chosen, checked, advance)
        else:
            for index, cell in enumerate(chosen):
                reading = self.readings[cell.run]
                checked([index], run_reading(self.model, reading, cell.patches)[None])
                advance((len(reading) - cell.start) * (n_layers - cell.layer))

    def _run_fast(self, cells: Sequence[Cell], consume: Consume, advance: _Advance) -> None:
        assert self._runs is not None  # the caller's condition
        budget = self.max_bytes - min(_RESERVE, self.max_bytes // 4)
        budget -= sum(run.n_bytes for run in self._runs)
        stores = [p.values.untyped_storage() for cell in cells for p in cell.patches]
        budget -= sum({store.data_ptr(): store.nbytes() for store in stores}.values())
        finished: set[int] = set()
        while len(finished) < len(cells):
            left = [index for index in range(len(cells)) if index not in finished]
            chosen = [cells[index] for index in left]
            self._require_budget(budget, chosen)

            def keep(indices: list[int], logits: Tensor, left: list[int] = left) -> None:
                consume([left[k] for k in indices], logits)
                finished.update(left[k] for k in indices)

            try:
                run_cells(self.model, self._runs, chosen, keep, max_bytes=budget, advance=advance)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            if len(finished) < len(cells):
                budget //= 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self.notes.append(f"memory ran out: went on with {budget >> 20} MiB")

    def _require_budget(self, budget: int, cells: Sequence[Cell]) -> None:
        assert self._runs is not None
        least = least_bytes(self.model, self._runs, cells)
        if budget < least:
            need = (self.max_bytes - budget + least) >> 20
            raise InterpError(
                f"a budget of {self.max_bytes >> 20} MiB is too small for one patched run of these "
                f"prompts: give max_bytes of at least {need + 1} MiB"
            )

    def _agrees(self, cells: Sequence[Cell]) -> bool:
        """Whether the fast way gives the slow way's numbers for all that these cells need."""
        reason = self._disagreement(cells)
        if reason:
            self._give_up(reason)
        return not reason

    def _disagreement(self, cells: Sequence[Cell]) -> str:
        assert self._runs is not None
        if model_state(self.model) != self._state:
            return "hooks or weights changed since the prompts were run"
        reason = compare_layers(self.model, self._runs, cells, self._state)
        if reason:
            return reason
        tried = remembered(self.model, ("one cell", self._state), set)
        branched = [cell for cell in cells if self._runs[cell.run].branched]
        # the latest start has the fewest rows; how far they reach back was compared layer by layer
        first = min(branched or cells, key=lambda cell: (cell.layer, -cell.start))
        kinds = frozenset(kind_of(patch) for patch in first.patches)
        kinds |= {"branches"} if branched else set()
        if any(kinds == seen and layer <= first.layer for seen, layer in tried):
            return ""
        limit = TOLERANCE.get(self.model.cfg.dtype, 1e-2)
        reason = compare_logits(self.model, self._runs, limit) or self._compare_cell(first, limit)
        if not reason:
            tried.add((kinds, first.layer))
        return reason

    def _compare_cell(self, cell: Cell, limit: float) -> str:
        """One cell from its first layer to the logits, both ways."""
        cell = self._checkable(cell)
        try:
            fast = self._one_fast(cell)
        except InterpError:
            raise
        except Exception as error:  # whatever a model makes of flat rows
            return f"a patched run ended in {type(error).__name__}"
        slow = run_reading(self.model, self.readings[cell.run], cell.patches)
        scale = float(slow.max() - slow.min())
        deviation = float((fast - slow).abs().max()) / max(scale, 1e-12)
        if deviation <= limit:
            return ""
        return f"a patched run came out {deviation:.1e} of the logit range apart"

    def _one_fast(self, cell: Cell) -> Float[Tensor, "read d_vocab"]:
        found: list[Tensor] = []

        def keep(indices: list[int], logits: Tensor) -> None:
            found.append(logits[0])

        self._run_fast([cell], keep, lambda rows: None)
        return found[0]

    def _checkable(self, cell: Cell) -> Cell:
        """The cell, or where hooks cannot set its site, its rows written back unchanged."""
        if all(supports_hook(self.model, patch.site) for patch in cell.patches):
            return cell
        assert self._runs is not None
        positions = cell.first_patches[0].positions
        own = self._runs[cell.run].resid[cell.layer][positions.to(self.model.cfg.device)]
        return Cell(cell.run, (Patch(cell.layer, "resid_pre", positions, own),))

    def _over_all_keys(self, cell: Cell) -> Cell:
        reading = self.readings[cell.run]
        if len(reading) == len(reading.prompt):
            return cell
        return Cell(cell.run, over_all_keys(cell.patches, len(reading)))

    def _give_up(self, reason: str) -> None:
        self._runs = None
        note = f"one forward per cell: the exact engine does not apply ({reason})"
        if note not in self.notes:
            self.notes.append(note)
