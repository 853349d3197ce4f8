"""What instructions do to answers: single prompts, rounds of self-correction, completions.

Choice items are scored under every condition, text and cyclic order (the text bank gives each
instruction its placebo), then asked over rounds, each trajectory and its placebo. Completion
items are completed over rounds, read for toxicity by a named scorer, for fluency behind their
beginning as plain text, and for what was edited or appended. ``conversations_histories.jsonl`` and
``completions_histories.jsonl`` hold every conversation, ids and text.

    config = BehaviourConfig(items="bbq:Age,bbq:Religion", limit=200, out="runs/behave")
    done = run(Behaviour(), config)
    done.tables["rank_gain"]
"""
