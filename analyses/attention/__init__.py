"""Who looks at the instruction: attention of later positions, beside a placebo in its place.

Attention shows what is read, not what is used: a map of where to look, not a causal claim.

    done = run(Attention(), AttentionConfig(items="bbq:Age", out="runs/attention"))
    done.heads
"""
