"""What of a direction is read downstream, and what is not.

A coordinate can tell two runs apart and still carry nothing: a direction halfway between one that
differs and is not read and one that is read and does not differ moves the answer when it is exchanged,
along a path that neither run takes (arXiv 2311.17030). So a direction is split into what downstream
weights can read and the rest, and each part is exchanged alone: what both together carry and neither
alone does is such an interaction.

*Can read.* Of one weight matrix it is the row space. Behind a layer of a transformer stand all later
layers' reading weights, through norms and other tokens; stacked they have full rank, so that everything
could be read. What *is* read of the answer are the directions that its gradient lies in: the leading
eigenvectors of the sum of squared gradients of the metric by the states at a place, over the positions
behind the instruction of other items (an active subspace, arXiv 1304.2070), with
:data:`~.thresholds.READ_SHARE` of its trace. On a linear read-out it is the row space exactly. Where the
answer saturates, the gradient in either run says little of the way between them, so it is taken on the
way: each pair's once, with the direction's coordinate at every place part of the way from the placebo's
to the corrected one's, the parts spread evenly over the pairs. What the part that is left out carries by
itself is measured, and stated with the row.

Cost per pair whose gradient is taken: one forward and backward of either option.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import patches_in
from interp.patching.cells import Patch
from interp.patching.metrics import apply_metrics
from interp.superficiality.sides import Sides, metrics_of, residual_names
from interp.superficiality.thresholds import READ_SHARE

READ_PAIRS = 16
"""Pairs whose gradients are taken."""

_GOLDEN = (5**0.5 - 1) / 2

Parts = Float[Tensor, "fold part place d_model"]
"""Of a direction's unit vectors, by fold of the items: the part that is read, then the rest."""


def part_of(
    parts: Parts | None, group: int, readable: bool
) -> Float[Tensor, "place d_model"] | None:
    """The unit vectors of one part for the pairs of a group; None where its fold was not fitted.

    Zero where the direction has no such part: exchanging it changes nothing.
    """
    if parts is None or bool(parts[group // 2].isnan().any()):
        return None
    return torch.nn.functional.normalize(parts[group // 2, int(not readable)], dim=-1)


class ReadFits:
    """Squared gradients of pairs that are seen once, by fold; then the parts of the direction.

    Args:
        model: a bridge in evaluation mode.
        vectors: the direction at every place.
        places: of the residual stream: place l is before layer l.
        n_pairs: of the first so many the gradient is taken.
    """

    def __init__(
        self,
        model: TransformerBridge,
        vectors: Float[Tensor, "place d_model"],
        places: tuple[int, ...],
        n_pairs: int = READ_PAIRS,
    ) -> None:
        self._model, self._vectors, self._places = model, vectors.cpu().float(), places
        self._left = n_pairs
        self._seen = [0, 0]
        d = vectors.shape[-1]
        self._squares = torch.zeros(2, len(places), d, d)

    def add(
        self,
        sides: Sides,
        fold: int,
        corrected: Float[Tensor, "place row d_model"],
        placebo: Float[Tensor, "place row d_model"],
    ) -> None:
        """A pair, with the states of the rows of its prompts."""
        if self._left > 0:
            step = (0.5 + _GOLDEN * self._seen[fold]) % 1
            self._seen[fold] += 1
            self._left -= 1
            rows = sides.behind[sides.behind < placebo.shape[1]]
            between = (placebo + step * (corrected - placebo))[:, rows]
            found = self._gradients(sides, rows, between)
            self._squares[fold] += found.mT @ found

    def parts(self, share: float = READ_SHARE) -> Parts | None:
        """Each fold's parts, fitted on the pairs of the other one; NaN where it has none."""
        if not any(self._seen):
            return None
        found = torch.full((2, 2, *self._vectors.shape), float("nan"))
        for fold in (0, 1):
            if self._seen[1 - fold]:
                read = project_read(self._vectors, self._squares[1 - fold], share)
                found[fold] = torch.stack([read, self._vectors - read])
        return found

    @torch.inference_mode(False)  # gradients are needed, whatever mode the caller is in
    def _gradients(
        self,
        sides: Sides,
        rows: Int[Tensor, " row"],
        between: Float[Tensor, "place row d_model"],
    ) -> Float[Tensor, "place row d_model"]:
        """Of the first metric by the states at every place, the coordinate set there."""
        names = [residual_names(self._model)[place] for place in self._places]
        kept: list[dict[str, Tensor]] = []

        def setter(name: str, patch: Patch) -> Callable[..., Tensor]:
            def write(activation: Tensor, hook: Any) -> Tensor:
                first = not kept[-1]
                # nothing before the first place needs a gradient, so the graph starts there
                moved = activation.detach().clone() if first else activation.clone()
                moved[0, patch.positions] = patch.apply(moved[0, patch.positions])
                kept[-1][name] = moved.requires_grad_() if first else moved
                return moved

            return write

        logits, reading = [], sides.placebo
        with torch.enable_grad():
            for forward, wanted in zip(reading.forwards, reading.reads(), strict=True):
                kept.append({})
                hooks = []
                for name, values, vector in zip(names, between, self._vectors, strict=True):
                    patch = Patch(0, "resid_pre", rows, values, vector=vector)
                    (own,) = patches_in([patch], forward.rows)
                    hooks.append((name, setter(name, own)))
                reset_rope(self._model)
                device = self._model.cfg.device
                with self._model.hooks(fwd_hooks=hooks):
                    found = wrapped_logits(
                        self._model, forward.ids[None].to(device), logits_to_keep=wanted.to(device)
                    )
                logits.append(found[0].float())
            metrics = dict([next(iter(metrics_of(sides.pair).items()))])
            read = torch.cat(logits)[None]
            (value,) = apply_metrics(metrics, read, sides.pair).values()
        every = [tensor for forward in kept for tensor in forward.values()]
        gradients = torch.autograd.grad(value.sum(), every, allow_unused=True)
        by_forward = torch.stack(
            [
                torch.zeros_like(tensor[0, rows]) if gradient is None else gradient[0, rows]
                for tensor, gradient in zip(every, gradients, strict=True)
            ]
        )
        # the prompt's states are the same behind either option: their gradients add up
        return by_forward.unflatten(0, (len(kept), len(names))).sum(0).float().cpu()


def project_read(
    vectors: Float[Tensor, "place d_model"],
    squares: Float[Tensor, "place d_model d_model"],
    share: float = READ_SHARE,
) -> Float[Tensor, "place d_model"]:
    """The part of every vector in the leading eigenvectors that hold a share of the trace."""
    values, axes = torch.linalg.eigh(squares.double())
    held = values.flip(-1).cumsum(-1) / values.sum(-1, keepdim=True)
    # of the descending order those up to the first that reaches the share; none where nothing is read
    leading = (held.roll(1, -1).index_fill(-1, torch.tensor([0]), 0.0) < share).flip(-1)
    leading &= values > 0
    onto = torch.einsum("pdk,pd->pk", axes, vectors.double()) * leading
    return torch.einsum("pdk,pk->pd", axes, onto).float()
