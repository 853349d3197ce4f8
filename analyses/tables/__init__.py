"""Every table of README and docs, and the committed rows that it is computed from.

``python -m analyses.tables`` renders all of them from ``docs/rows`` in seconds, without a model, between
the markers of their page; ``--check`` fails where a page differs from what the rows give, or where its
prose quotes an interval that no table holds. ``python -m analyses.tables --rows NAME`` makes the rows of
a run anew through its study (``all``: every run), which takes a model and, for some, a data set.

:mod:`.runs` lists the runs, :mod:`.entries` the tables, :mod:`.pages` writes and checks the pages.
"""
