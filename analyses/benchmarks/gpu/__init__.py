"""The workbench on a graphics card: ``python -m analyses.benchmarks.gpu``.

Models with random weights of two Llama shapes, made on the card, and the catalogue models whose weights
are in the cache; each in bfloat16 and float32 (TensorFloat-32 off). Three tables, printed as they grow:

- *exactness*: the same cells in float32 on the card and on the CPU, of the first layers of a shape;
- *scoring*: prompts per second of bundled items under five conditions, in every cyclic order;
- *sweeps*: whole exact sweeps and screened ones beside TransformerLens's on the same cells, in the same
  process (:mod:`analyses.benchmarks.patching` says how, and what the bound is). "s" is the first sweep,
  its self-check included, "again s" another one; peaks are of the memory that torch allocated for them.

The parts share the minutes that are left: a sweep patches as many positions as its share allows.
``--tiny`` runs all of it on a CPU, for the sake of the code and not of its figures.
"""
