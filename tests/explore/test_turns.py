"""What comes from another thread waits for the cell that runs; the rest is handled at once."""

from __future__ import annotations

import asyncio
import threading

from interp.explore.turns import Turns


def test_a_report_of_another_thread_waits_for_the_thread_of_the_cells() -> None:
    seen: list[tuple[str, threading.Thread]] = []

    async def cell() -> None:
        turns = Turns()

        def report(name: str) -> None:
            turns.take(lambda: seen.append((name, threading.current_thread())))

        report("own")
        other = threading.Thread(target=report, args=("other",))
        other.start()
        other.join()
        assert [name for name, _ in seen] == ["own"]  # the cell still runs
        await asyncio.sleep(0)

    asyncio.run(cell())
    here = threading.current_thread()
    assert seen == [("own", here), ("other", here)]


def test_without_a_loop_it_is_handled_at_once() -> None:
    seen: list[int] = []
    turns = Turns()
    other = threading.Thread(target=lambda: turns.take(lambda: seen.append(1)))
    other.start()
    other.join()
    assert seen == [1]
