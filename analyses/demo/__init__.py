"""The main job, end to end: what does a self-correction instruction do, outside and inside?

A composition: the studies of behaviour, patching, lens, projection and attention on one sample of real
items, each with a length-matched placebo and a positive control that names the answer, told as one
short story. Every number is that of the study it comes from; only the choice of items and of sections
is the demo's own.

    done = run(Demo(), DemoConfig(out="runs/demo"))
    done.patch.totals
"""
