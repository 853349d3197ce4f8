"""What labelled texts must have to be learned from and split; numbers of any kind are left alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from interp.data.items import LabelledText
from interp.errors import InterpError


def require_both_labels(texts: Sequence[LabelledText]) -> None:
    """Refuse texts of which nothing can be learned.

    Raises:
        InterpError: no texts, or one label only.
    """
    if len({bool(text.label) for text in texts}) < 2:
        raise InterpError(f"{len(texts)} texts with one label only: both labels are needed")


def require_folds(groups: Collection[str], n_folds: int) -> None:
    """Refuse more folds than groups, which are never split.

    Raises:
        InterpError: names both numbers.
    """
    n_groups = len(set(groups))
    if not 2 <= n_folds <= n_groups:
        raise InterpError(
            f"n_folds is {n_folds}: must be at least 2 and at most the number of groups, {n_groups}"
        )
