"""When an instruction changes the answer: logit lens over layers, with a positive control.

Every item is asked under the clean prompt, under several wordings of the condition asked about and of
the revealing control, and under the length-matched placebo of each. The options' margin (their logit
difference), log-probability and rank are followed through the layers, and the whole distributions are
compared. The condition's curve is interpreted only where the control's shows something.

    done = run(Lens(), LensConfig(items="bbq:Age", texts=6, out="runs/lens"))
    done.parting
"""
