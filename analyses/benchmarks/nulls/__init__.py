"""Placebo against placebo: how often would a report print an effect of nothing?

``python -m analyses.benchmarks.nulls --out runs/nulls`` asks the reports of the command line that speak
of an instruction's effect (behave, lens, project, patch, and the demo that is composed of them) about
instructions that are none: six placebos pose as the instruction, six others as its placebos. Whatever
the reports then print as an effect is false, so at a level of .05 about one draw in twenty may print
one. With ``--power`` the control that names the answer poses as the instruction, and a benchmark that
can see must find claims in nearly every draw.

:mod:`.pool` chooses items and wordings, :mod:`.rows` reads every item under every wording (the only
part that needs a model: in parallel, resumable), :mod:`.draws` draws items and wordings from these rows
and makes the tables that a run on them would have, :mod:`.claims` asks the studies' own functions what
they claim of these, :mod:`.measure` counts.

What is counted is a claim with the verdict "effect" about the condition against its placebo, a layer,
head or part named from its max-t family, and a cell of a map that may be interpreted. Three things are
decided against the reports: the gates of the positive control count as passed; a layer counts though the
report adds that null directions do as much; and behave asks one condition, so that its family is the
smallest. Not counted: contrasts with the prompt without an instruction (flips), which are no placebo
contrasts, and what a report says of its own wordings alone (distances).

Reduced, so that the rows cost less than the runs: placebos of one token count, the one that the bank
has most of; ambiguous BBQ items; every wording is read once an item, not once for every pair that it
is in; the margins of lens, project and patch are those of behave's first order, as in their runs; the
map is the demo's (12 layers by spans, every item with one pair of wordings in turn), and an item has
it for a dozen ordered pairs, from which a draw takes one (so its wordings are others than those that
the studies without pairs draw); the demo looks into as many items as by default. The draws of max-t are
as many as the studies use.
"""
