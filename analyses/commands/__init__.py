"""Commands of ``interp`` that have a file of their own; :mod:`analyses.cli` registers them."""
