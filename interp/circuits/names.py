"""What circuits are asked for, in plain words.

Nothing here loads torch, so that a configuration can name and check these.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Ablation: TypeAlias = Literal["resample", "mean", "zero"]
"""What a node outside a circuit gives instead of its own output: the placebo's, a mean, or nothing."""

ScoreMethod: TypeAlias = Literal["attribution", "relp", "exact"]
"""How nodes and edges are scored: estimates by gradients, by relevance propagation, or a run each."""

OverPairs: TypeAlias = Literal["mean", "mean_absolute"]
"""How the effects of a node on several pairs become a score."""

UnitKind: TypeAlias = Literal["nodes", "edges"]
"""What circuits are made of: heads and MLPs, or the edges between them."""
