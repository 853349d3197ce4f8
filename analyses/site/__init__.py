"""What the documentation site is built with, beside its pages in ``docs``: ``make docs``.

:mod:`.names` finds the public names of a room, :mod:`.commands` the options of every command;
:mod:`.hooks` writes both into the pages, and :mod:`.docstrings` turns docstrings into Markdown. Nothing
here loads torch or reaches a network.
"""
