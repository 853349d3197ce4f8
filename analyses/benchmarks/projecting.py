"""Memory of ``interp project`` beside its sample: ``python -m analyses.benchmarks.projecting``.

The same run for two numbers of prompts, each in a process of its own, with the direction, its
null directions, every component and the decomposition. Prints the peak of resident memory of each,
as the operating system counts it: of the whole process, and once the model is loaded. (Loading has
a peak of its own, often the larger one, which would hide a growth; the count is reset after it, on
Linux.) What grows with the sample is a few numbers per prompt, so the ratio of the later peaks
should stay below 1.10. Prompts per second: of the prompts that the larger run has more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from interp.models.catalogue import DEFAULT_MODEL

MAX_RATIO = 1.10


@dataclass(frozen=True)
class Measured:
    """One run: its prompts, peaks of resident memory in MiB, and seconds.

    ``peak_mib`` is that after the model was loaded, ``whole_mib`` that of the whole process.
    """

    prompts: int
    peak_mib: float
    whole_mib: float
    seconds: float


def main() -> None:
    """Run the benchmark with the sizes given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--items", default="bundled")
    parser.add_argument("--texts", type=int, default=6, help="wordings and placebos per item")
    parser.add_argument("--prompts", default="64,1024", help="the two sizes, at least")
    parser.add_argument("--alone", type=int, default=0, help="run this many items and print JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        measured = measure(arguments.model, arguments.items, arguments.texts, arguments.alone)
        print(json.dumps(asdict(measured)))
        return
    runs = []
    for prompts in arguments.prompts.split(","):
        n_items = -(-int(prompts) // prompts_per_item(arguments.texts))
        runs.append(_in_own_process(arguments, n_items))
        one = runs[-1]
        print(
            f"{one.prompts} prompts: peak {one.peak_mib:.0f} MiB (with loading "
            f"{one.whole_mib:.0f}), {one.seconds:.0f} s",
            flush=True,
        )
    small, large = runs[0], runs[-1]
    ratio = large.peak_mib / small.peak_mib
    more, longer = large.prompts - small.prompts, large.seconds - small.seconds
    print(f"ratio of peaks: {ratio:.3f} (at most {MAX_RATIO:.2f})")
    print(f"prompts per second: {more / longer:.1f}" if more and longer > 0 else "")


def prompts_per_item(texts: int) -> int:
    """Clean, the wordings with their placebos, and the revealing one with its own."""
    return 1 + 2 * texts + 2


def measure(model: str, items: str, texts: int, n_items: int) -> Measured:
    """One run in this process."""
    from analyses.benchmarks.machine import peak_memory
    from analyses.project.config import ProjectConfig
    from analyses.project.study import Project
    from analyses.runner import run
    from interp.models import load_model

    loaded = load_model(model)
    while_loading = _peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        config = ProjectConfig(
            model=model,
            items=items,
            texts=texts,
            limit=n_items,
            components=("head", "attn_out", "mlp_out"),
            out=Path(folder) / "run",
        )
        with peak_memory():  # begins by resetting the count
            started = time.perf_counter()
            done = run(Project(), config, model=loaded, progress=False)
            seconds = time.perf_counter() - started
    peak = _peak_mib()
    prompts = len(done.items) * prompts_per_item(texts)
    return Measured(prompts, peak, max(peak, while_loading), seconds)


def _peak_mib() -> float:
    import resource  # not on every system

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _in_own_process(arguments: argparse.Namespace, n_items: int) -> Measured:
    # this process has loaded no library, so that the child begins small
    command = [sys.executable, "-m", "analyses.benchmarks.projecting", "--alone", str(n_items)]
    for name in ("model", "items", "texts"):
        command += [f"--{name}", str(getattr(arguments, name))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(**json.loads(finished.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
