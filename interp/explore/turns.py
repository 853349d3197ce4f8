"""What widgets report, handled in turn with the notebook's cells.

JupyterLab (4.4 and later) has the kernel handle it in a thread of its own, beside the one that runs
cells. But a view puts hooks on the model while it is computed: a cell that runs meanwhile would get the
edited model's numbers without knowing, and the view the cell's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Turns:
    """Calls go to the thread that this was made in, when it is free; at once where they come from it."""

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # a program without a loop has no thread of widgets either
            self._loop = asyncio.get_running_loop()

    def take(self, act: Callable[[], object]) -> None:
        """Call it in turn."""
        if self._loop is None or threading.current_thread() is self._thread:
            act()
        else:
            self._loop.call_soon_threadsafe(act)
