"""Is the effect of an instruction superficial? Its scorecard: rows by intervention, and a verdict.

The instruction stands first, where it can change what is stored of the context and the question. All
items give the effect; the first of them are patched, each with one of the wordings in turn.

    done = run(Superficiality(), SuperficialityConfig(items="bbq", out="runs/superficiality"))
    print(done.scorecard.verdict)
"""
