"""Where an instruction acts: exact patching over many items, with a positive control.

For every item and text the prompt of a condition is the source, the prompt of another one (its
length-matched placebo) the destination. Beside it runs the same sweep of the revealing condition
against its own placebo: a map is interpreted only where that control's map shows something.

Over many items positions differ, so ``cells="layer_pos"`` names them by their span and the offset
within it (``instruction +3``; ``answer_prefix last`` is the position that is read) and keeps the
names that every pair has.

    done = run(Patch(), PatchConfig(items="bbq:Age", site="resid_pre", out="runs/age"))
    done.results["instructed", "resid_pre"].share()
"""
