"""Do the methods find what is there? On compiled models whose truth is known.

``python -m analyses.benchmarks.known`` prints three tables and writes their rows:

- **cells**: heads and MLPs at single positions, scored by exact patching in both directions, by
  attribution and integrated gradients, and at random; the area under the ROC curve against the cells
  that the program uses. Programs whose routes back each other up stand apart: beside the sum of the
  single effects stands what all true cells do together.
- **edges**: those between heads, MLPs, the embedding and the logits, at all positions at once, by the
  same methods, against the edges along which the program's variables pass.
- **directions**: every fitting method at the layer and position where a variable is written; |cos| with
  the variable's own direction, and how often exchanging the state along the fitted one gives the answer
  that the program gives with this variable exchanged.

Each as compiled, and turned by a random rotation among noise that nothing reads.
"""
