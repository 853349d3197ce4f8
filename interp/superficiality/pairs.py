"""Whose pair it is: items, clusters and folds, also of pairs that have no item."""

from __future__ import annotations

from collections.abc import Sequence

from interp.prompts import PromptPair


def item_of(pair: PromptPair, number: int) -> str:
    """The name of a pair's item, else that of the pair."""
    return f"pair {number}" if pair.item is None else pair.item.id


def clusters_of(pairs: Sequence[PromptPair], clusters: Sequence[str] | None = None) -> list[str]:
    """The clusters of pairs: those given, else their items', else each its own."""
    if clusters is not None:
        return list(clusters)
    return [item_of(p, k) if p.item is None else p.item.cluster for k, p in enumerate(pairs)]


def folds_of(clusters: Sequence[str]) -> list[int]:
    """0 or 1 of every pair: every second cluster is in the other fold."""
    fold = {name: k % 2 for k, name in enumerate(dict.fromkeys(clusters))}
    return [fold[name] for name in clusters]
