"""The bounds of the scorecard's verdict, with their reasons, fixed before any card was computed.

A bound that is moved after a card was seen is worth nothing, so this file has a commit of its own before
the first card, and every card says which bound its verdict came from. ``docs/methods.md`` has the
statistics behind the intervals that are compared with them.
"""

from __future__ import annotations

SUPERFICIAL_SHARE = 0.20
"""The upper bound of a share below which a route counts as not carrying the effect.

A fifth: what is left of a route that carries nothing when the other route saturates (answers of models
of known truth miss their program's by up to a quarter of a concept). Not 0, since no interval of a
positive number of items lies below 0 alone."""

DEEP_SHARE = 0.50
"""The lower bound of a share above which a route carries the effect: more than all else together."""

LATE_ONSET = 0.50
"""Of the layers: an effect half of which has reached the post-instruction states no earlier than
behind this share of them is *late*. Stored content is read by later layers, and of a change in the
second half of a network fewer layers are left to use it than made it."""

MAX_RANK = 16
"""The largest dimension of a subspace that still counts as a direction. Concepts of models of known
truth have up to four; five doublings (1, 2, 4, 8, 16) show a curve."""

RANKS = (1, 2, 4, 8, 16)
"""Dimensions of the subspaces that are read."""

SPAN_SHARE = 0.35
"""The upper bound that subspaces of every rank up to :data:`MAX_RANK` have to stay below before a
direction is called superficial: one direction may miss what several fits together hold."""

FULL_STATE_SHARE = 0.50
"""The lower bound of the share that the *whole* states at a mediation's positions and layers carry.

Below it no direction there can be said to carry little: there is little to carry. (Measured before this
project's cards: on the default model the full state behind the instruction at one middle layer carries
.10 of an effect of 2.1 nats.)"""

ORACLE_SHARE = 0.30
"""The lower bound of the share of the oracle, the leading directions of the very shift. Where even these
carry less, a ratio to them is a ratio of noise."""

INSTRUMENT_AUC = 0.70
"""AUC on held-out categories that a direction needs before a row that uses it is read."""

INSTRUMENT_AUC_LOW = 0.60
"""What its interval must lie above: well beyond the .51 that directions trained on other categories
reach, where the interval's lower bound touches chance."""

BEYOND_NULLS = 0.95
"""Share of the null directions that a direction has to move the judgement more than."""

MOVED_AGAINST = 1 / 3
"""The share of pairs moved against the mean above which a row is shown and not read. A half would be
the noise of a mean of nothing; a third says that the mean stands for no more than two items in three."""

IDENTITY_TOLERANCE = 1e-3
"""Nats by which the run with *every* state from the source may miss the source's own margin. Above it
the instrument is broken and no row that patches is read (the bound of
:data:`interp.patching.identities.TOLERANCE`)."""

READ_SHARE = 0.99
"""What is read downstream holds this share of the squared gradients of the answer by the states. What a
function of mean square gradient C varies along the directions that are left out is at most a constant
times the share of C that they hold (active subspaces, arXiv 1304.2070): a hundredth."""

INTERACTION_ALONE = 0.50
"""The lower bound of the share of what a direction carries that neither of its parts, read or unread,
carries alone, above which the row is void: more than the parts together (arXiv 2311.17030)."""

OFF_MANIFOLD = 0.50
"""The share of patched states beyond the 99th percentile of placebo states above which a row is shown
and not read: more than half of what is read then comes from states that hardly ever occur."""

INTERACTION_SHARE = 0.50
"""The lower bound of (content alone + instruction alone - total) / total above which the routes back
each other up: together they bring half more than there is to explain, so that either is nearly
enough."""
