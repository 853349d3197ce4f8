"""What the tree of prefixes saves: ``python -m analyses.benchmarks.scoring``.

BBQ items x five conditions (one text each) x cyclic orders are scored the workbench's way, the first
few items also as a script would: batched forwards of (prompt, option) pairs, padded on the right, at
the best batch size. Prints prompts per
second, the share of tokens computed (tree nodes over the tokens of all pairs), the ratio of the two
times on the same items, the largest difference of the margins, and the time of the whole job. Where
lm-evaluation-harness is installed, it scores the same pairs (:mod:`analyses.benchmarks.harness`).

    python -m analyses.benchmarks.scoring --items 400     # 200 ambiguous + 200 disambiguated
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import transformers
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.by_hand import plain_model
from analyses.benchmarks.harness import INSTALL, Harness, harness_version
from analyses.benchmarks.machine import matrix_rate, threads
from interp.behaviour import score_variants
from interp.data import ChoiceItem, load_items
from interp.models import DEFAULT_MODEL, load_model
from interp.models.forward import MAX_NODES
from interp.models.steps import plan_steps
from interp.models.tree import pack
from interp.prompts import (
    Condition,
    TextBank,
    condition_prompt,
    cyclic_orders,
    encode_continuation,
    margin_token,
)

CONDITIONS = ("clean", "instructed", "placebo", "negated", "revealing")


@dataclass
class Pairs:
    """Every (prompt, option) of some items, as token ids, and which places make a margin."""

    sequences: list[Tensor] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    margins: list[tuple[int, int, int, int] | None] = field(default_factory=list)
    """Per prompt: pair, place in it, token of the better option, token of the other."""
    contrasts: list[tuple[int, int] | None] = field(default_factory=list)
    """Per prompt: the pairs of the better option and of the other."""
    items: list[int] = field(default_factory=list)
    """The first pair of every item."""


def main() -> None:
    """Run the benchmark with the sizes given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--items", type=int, default=8, help="BBQ items, half of them ambiguous")
    parser.add_argument("--compare", type=int, default=4, help="items scored the slow way too")
    parser.add_argument("--batches", default="1,4,8,16,32", help="rows of the slow ways' forwards")
    arguments = parser.parse_args()
    batches = [int(size) for size in arguments.batches.split(",")]
    model = load_model(arguments.model)
    items = load_items("bbq", limit=arguments.items, seed=0)
    bank = TextBank(model.tokenizer)
    score_variants(model, items[0], _variants(bank, items[0]))  # warm up

    few = items[: arguments.compare]
    pairs = _pairs(model, bank, few)
    fast, frame = _packed(model, bank, few)
    slow = {batch: _batched(model, pairs, batch) for batch in batches}
    best = min(slow, key=lambda batch: slow[batch][0])
    margins = torch.tensor(frame["margin"].to_numpy(), dtype=torch.float64)
    difference = (margins - slow[best][1]).abs().nan_to_num().max()
    nodes, tokens = _nodes(pairs), sum(len(ids) for ids in pairs.sequences)

    print(
        f"{len(frame)} prompts of {len(few)} items, {len(pairs.sequences)} (prompt, option) pairs"
    )
    times = ", ".join(f"batch {batch}: {seconds:.1f} s" for batch, (seconds, _) in slow.items())
    print(f"one batched forward per (prompt, option): {times}")
    print(f"tree of prefixes: {fast:.1f} s, {len(frame) / fast:.1f} prompts per second")
    print(f"tokens computed: {nodes} of {tokens} ({nodes / tokens:.1%})")
    print(f"ratio to batch {best}: {slow[best][0] / fast:.1f}x")
    print(f"largest difference of a margin: {difference:.1e} nats")
    print(f"matrix rate of this machine: {matrix_rate() / 1e9:.0f} GFLOP/s (float32, {threads()})")
    print_harness(model, pairs, batches, fast, frame)
    if len(items) > len(few):
        seconds, frame = _packed(model, bank, items)
        kinds = pd.Series([item.context_condition for item in items]).value_counts().to_dict()
        print(
            f"all {len(items)} items ({kinds}): {len(frame)} prompts in {seconds / 60:.1f} min, "
            f"{len(frame) / seconds:.1f} prompts per second"
        )


def print_harness(
    model: TransformerBridge,
    pairs: Pairs,
    batches: Sequence[int],
    fast: float,
    frame: pd.DataFrame,
) -> None:
    """The same pairs through lm-evaluation-harness, or how to install it."""
    installed = harness_version()
    if installed is None:
        print(f"lm-evaluation-harness is not installed and not measured: {INSTALL}")
        return
    harness = Harness(plain_model(model), model.tokenizer)
    tokens = [
        (ids[:start].tolist(), ids[start:].tolist())
        for ids, start in zip(pairs.sequences, pairs.starts, strict=True)
    ]
    harness.log_likelihoods(tokens[:2], 1)  # warm up
    runs = {batch: harness.log_likelihoods(tokens, batch) for batch in batches}
    best = min(runs, key=lambda batch: runs[batch][0])
    means = runs[best][1] / torch.tensor([len(continuation) for _, continuation in tokens])
    margins = [
        np.nan if contrast is None else float(means[contrast[0]] - means[contrast[1]])
        for contrast in pairs.contrasts
    ]
    difference = np.nanmax(np.abs(frame["option_margin"].to_numpy() - margins))
    times = ", ".join(f"batch {batch}: {seconds:.1f} s" for batch, (seconds, _) in runs.items())
    print(f"lm-evaluation-harness {installed} (transformers {transformers.__version__}): {times}")
    print(f"ratio to lm-evaluation-harness, batch {best}: {runs[best][0] / fast:.1f}x")
    print(f"largest difference of an option margin to it: {difference:.1e} nats")


def _variants(bank: TextBank, item: ChoiceItem) -> list[Condition]:
    """One prompt per condition; of the placebos, that of the instruction."""
    texts = bank.conditions(item, CONDITIONS, n_texts=1, n_control_texts=1)
    return [text for text in texts if text.control_of in ("", "instructed")]


def _packed(
    model: TransformerBridge, bank: TextBank, items: Sequence[ChoiceItem]
) -> tuple[float, pd.DataFrame]:
    started = time.perf_counter()
    frames = [
        score_variants(model, item, _variants(bank, item))
        for item in tqdm(items, desc="tree of prefixes")
    ]
    return time.perf_counter() - started, pd.concat(frames, ignore_index=True)


def _pairs(model: TransformerBridge, bank: TextBank, items: Sequence[ChoiceItem]) -> Pairs:
    pairs = Pairs()
    for item in items:
        pairs.items.append(len(pairs.sequences))
        for order in range(len(cyclic_orders(len(item.choices)))):
            for variant in _variants(bank, item):
                _add(pairs, model, item, variant, order)
    return pairs


def _add(
    pairs: Pairs, model: TransformerBridge, item: ChoiceItem, variant: Condition, order: int
) -> None:
    prompt = condition_prompt(model, item, variant, order=order)
    options = [
        encode_continuation(model.tokenizer, prompt, f" {choice.text.strip()}")
        for choice in item.choices
    ]
    contrast, margin, first = item.contrast(), None, len(pairs.sequences)
    if contrast is not None:
        a, b = (options[index] for index in contrast)
        shared = margin_token(a, b)
        if shared is not None:
            margin = (first + contrast[0], len(prompt) - 1 + shared, int(a[shared]), int(b[shared]))
    pairs.margins.append(margin)
    pairs.contrasts.append(None if contrast is None else (first + contrast[0], first + contrast[1]))
    pairs.sequences += [torch.cat([prompt.ids, ids]) for ids in options]
    pairs.starts += [len(prompt)] * len(options)


@torch.no_grad()
def _batched(model: TransformerBridge, pairs: Pairs, batch: int) -> tuple[float, Tensor]:
    """Seconds, and the margin of every prompt. Pairs of like length run together."""
    order = sorted(range(len(pairs.sequences)), key=lambda k: len(pairs.sequences[k]))
    wanted = {margin[0]: (row, margin) for row, margin in enumerate(pairs.margins) if margin}
    margins = torch.full((len(pairs.margins),), np.nan, dtype=torch.float64)
    started = time.perf_counter()
    for start in tqdm(range(0, len(order), batch), desc=f"batch {batch}"):
        group = order[start : start + batch]
        padded = torch.nn.utils.rnn.pad_sequence(
            [pairs.sequences[k] for k in group], batch_first=True
        )
        log_probs = model(padded).log_softmax(-1)
        for row, k in enumerate(group):
            ids, n = pairs.sequences[k], pairs.starts[k]
            read = log_probs[row, n - 1 : len(ids) - 1]
            read[torch.arange(len(ids) - n), ids[n:]].mean()  # the option's score
            if k in wanted:
                prompt, (_, place, a, b) = wanted[k]
                margins[prompt] = float(log_probs[row, place, a] - log_probs[row, place, b])
    return time.perf_counter() - started, margins


def _nodes(pairs: Pairs) -> int:
    """Tokens that the plan computes for these pairs, item by item as scoring does."""
    total = 0
    for start, stop in itertools.pairwise([*pairs.items, len(pairs.sequences)]):
        sequences = [ids[:-1] for ids in pairs.sequences[start:stop]]  # the last is no input
        for step in plan_steps(sequences, max_nodes=MAX_NODES):
            total += len(pack([sequences[k][step.start : step.stop] for k in step.prompts]).ids)
    return total


if __name__ == "__main__":
    main()
