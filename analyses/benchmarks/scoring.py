"""How much the shared prefix saves: ``python -m analyses.benchmarks.scoring``.

Scores the same (prompt, option) pairs twice in one process: one forward per pair, as a plain script
would, and together through :mod:`interp.models.forward`. Prints both times and their ratio, prompts
per second, the machine's matrix rate for comparison, and the largest difference of the margins.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.machine import matrix_rate, threads
from interp.behaviour import ScoringPlan, score_item
from interp.data import ChoiceItem, load_items
from interp.models import load_model
from interp.prompts import (
    TextBank,
    condition_prompt,
    cyclic_orders,
    encode_continuation,
    margin_target,
)


def main() -> None:
    """Run the benchmark with the sizes given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--items", type=int, default=2, help="BBQ items")
    parser.add_argument("--texts", type=int, default=6, help="wordings and placebos per item")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    items = load_items("bbq", limit=arguments.items, seed=0)
    plan = ScoringPlan(("clean", "instructed", "placebo"), arguments.texts, 1)
    score_item(model, TextBank(model.tokenizer), items[0], plan)  # warm up

    started = time.perf_counter()
    alone, tokens, n_pairs = _one_by_one(model, items, plan)
    slow = time.perf_counter() - started
    started = time.perf_counter()
    frame = pd.concat([score_item(model, TextBank(model.tokenizer), item, plan) for item in items])
    fast = time.perf_counter() - started

    difference = (torch.tensor(frame["margin"].to_numpy()) - alone).abs().nan_to_num().max()
    prompts = len(frame)
    print(f"{prompts} prompts, {n_pairs} (prompt, option) pairs, {tokens} tokens one by one")
    print(f"one forward per pair: {slow:.1f} s   packed: {fast:.1f} s   ratio {slow / fast:.1f}x")
    print(f"prompts per second, packed: {prompts / fast:.1f}")
    print(f"matrix rate of this machine: {matrix_rate() / 1e9:.0f} GFLOP/s (float32, {threads()})")
    print(f"largest difference of a margin: {difference:.1e} nats")


@torch.no_grad()
def _one_by_one(
    model: TransformerBridge, items: tuple[ChoiceItem, ...], plan: ScoringPlan
) -> tuple[torch.Tensor, int, int]:
    """Every (prompt, option) in a forward of its own; returns margins, tokens and pairs."""
    bank = TextBank(model.tokenizer)
    margins, tokens, n_pairs = [], 0, 0
    for item in items:
        variants = bank.conditions(
            item, plan.conditions, n_texts=plan.n_texts, n_control_texts=plan.n_control_texts
        )
        for order in range(len(cyclic_orders(len(item.choices)))):
            for variant in variants:
                prompt = condition_prompt(model, item, variant, order=order)
                target, shared = margin_target(model.tokenizer, item, prompt)
                margin = float("nan")
                for index, choice in enumerate(item.choices):
                    option = encode_continuation(model.tokenizer, prompt, f" {choice.text.strip()}")
                    ids = torch.cat([prompt.ids, option])
                    logits = model(ids[None])[0]
                    tokens, n_pairs = tokens + len(ids), n_pairs + 1
                    contrast = item.contrast()
                    if target is not None and contrast is not None and index == contrast[0]:
                        row = logits[len(prompt) - 1 + len(shared)]
                        margin = float(row[target.a] - row[target.b])
                margins.append(margin)
    return torch.tensor(margins, dtype=torch.float64), tokens, n_pairs


if __name__ == "__main__":
    main()
