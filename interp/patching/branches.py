"""Options teacher-forced behind a prompt: branches of one patched run.

The option margin reads every token of two options, each behind the same prompt. Two full runs (prompt
and option a, prompt and option b) compute the prompt twice; here the options are *branches* that share
the prompt's rows. The rows of a run are the prompt's positions and then those of each branch in turn.
A branch's rows see the prompt's keys and their own branch's; their positions go on after the prompt.

The last token of an option is read and never fed, so that an option of one token adds no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from interp.patching.cells import Patch

_BY_KEY = ("pattern", "edges")


@dataclass(frozen=True, eq=False)
class OwnForward:
    """One of the model's own forwards of a reading: its tokens, and the row that each one is."""

    ids: Int[Tensor, " pos"]
    rows: Int[Tensor, " pos"]


@dataclass(frozen=True, eq=False)
class Reading:
    """What is run and read: a prompt, branches behind it, and the rows whose logits are wanted.

    ``read`` is ascending; without branches a row is a position of the prompt.
    """

    prompt: Int[Tensor, " pos"]
    read: Int[Tensor, " read"]
    branches: tuple[Int[Tensor, " _more"], ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + sum(len(branch) for branch in self.branches)

    @property
    def forwards(self) -> list[OwnForward]:
        """The model's own forwards that have these rows: one per branch, or of the prompt alone."""
        n = len(self.prompt)
        found, start = [], n
        for branch in self.branches:
            if len(branch):
                rows = torch.cat([torch.arange(n), torch.arange(start, start + len(branch))])
                found.append(OwnForward(torch.cat([self.prompt, branch]), rows))
                start += len(branch)
        return found or [OwnForward(self.prompt, torch.arange(n))]

    def reads(self) -> list[Int[Tensor, " read"]]:
        """For each of the forwards the positions whose logits it gives; in order they are ``read``.

        The prompt's rows are read in the first one.
        """
        n, wanted = len(self.prompt), []
        for k, forward in enumerate(self.forwards):
            own = torch.isin(forward.rows, self.read)
            if k:
                own[:n] = False
            wanted.append(own.nonzero()[:, 0])
        return wanted


def readings_of(
    prompts: Sequence[Int[Tensor, " _pos"]],
    read: Sequence[Int[Tensor, " _read"]],
    branches: Sequence[tuple[Int[Tensor, " _more"], ...]] | None,
) -> list[Reading]:
    """Prompts with the rows that are read, and branches where there are any."""
    if branches is None:
        branches = [()] * len(prompts)
    return [Reading(*each) for each in zip(prompts, read, branches, strict=True)]


def over_all_keys(patches: Sequence[Patch], n_rows: int) -> tuple[Patch, ...]:
    """Patterns and edges given over a prompt's keys, over the rows of all branches behind it.

    A prompt's position attends to nothing there: no pattern, and no edge to remove.
    """
    return tuple(_widened(patch, n_rows) for patch in patches)


def _widened(patch: Patch, n_rows: int) -> Patch:
    if patch.site not in _BY_KEY or patch.values.shape[-1] >= n_rows:
        return patch
    missing = n_rows - patch.values.shape[-1]
    return replace(patch, values=torch.nn.functional.pad(patch.values, (0, missing)))


def patches_in(patches: Sequence[Patch], rows: Int[Tensor, " pos"]) -> list[Patch]:
    """The patches of a run as those of one of its own forwards, whose positions are these rows."""
    found = []
    for patch in patches:
        inside = torch.isin(patch.positions, rows)
        if bool(inside.any()):
            positions = torch.searchsorted(rows, patch.positions[inside])
            values = patch.values[inside.to(patch.values.device)]
            if patch.site in _BY_KEY:
                values = values[..., rows.to(values.device)]
            found.append(replace(patch, positions=positions, values=values))
    return found
