"""The morality direction: learned by several methods at several sites, with every control.

The labelled sentences are read once; every (method, site) gives one file of directions, one per
layer, with its held-out AUC, the same under shuffled labels, and beside it a bag of words, the
length, random directions with the states' covariance and non-moral contrasts fitted the same way.
Layer and site are selected here, on sentences, and nowhere else. The second study asks every set of
sentences about every other: does what was learned on one hold on another?

    done = run(FitDirection(), DirectionConfig(texts="bundled:morality", out="runs/direction"))
    done.fits.best
    run(TransferDirections(), TransferConfig(out="runs/transfer")).transfer.table()
"""
