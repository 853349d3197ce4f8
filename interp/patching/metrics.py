"""What is read at the end of a patched run: numbers of the logits at the last position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InterpError
from interp.prompts import MarginTarget, PromptPair

Metric: TypeAlias = Callable[[Tensor, PromptPair], Tensor]
"""``metric(logits [run, d_vocab], pair) -> [run]``: one number per run, from its last position."""


def margin(logits: Float[Tensor, "run d_vocab"], pair: PromptPair) -> Float[Tensor, " run"]:
    """The margin, or logit difference: logit(a) - logit(b) in nats; + is the better answer."""
    target = target_of(pair)
    return logits[:, target.a] - logits[:, target.b]


def log_prob(logits: Float[Tensor, "run d_vocab"], pair: PromptPair) -> Float[Tensor, " run"]:
    """Log-probability of the better answer's token, in nats."""
    return torch.log_softmax(logits, dim=-1)[:, target_of(pair).a]


METRICS: dict[str, Metric] = {"margin": margin, "log_prob": log_prob}


def target_of(pair: PromptPair) -> MarginTarget:
    """The pair's margin tokens.

    Raises:
        InterpError: the pair has none.
    """
    if pair.target is None:
        raise InterpError(f"{pair.label}: no margin target; no token distinguishes its options")
    return pair.target


def require_target(pairs: Sequence[PromptPair], metrics: Mapping[str, Metric]) -> None:
    """Refuse pairs without a margin where a metric reads one."""
    if set(METRICS.values()) & set(metrics.values()):
        for pair in pairs:
            target_of(pair)


def named_metrics(metric: Any) -> tuple[dict[str, Metric], bool]:
    """Metrics by name, and whether several were asked for.

    A name, a function, several names, or a mapping of names to functions.

    Raises:
        InterpError: an unknown name, or none.
    """
    if isinstance(metric, str):
        return {metric: _known(metric)}, False
    if isinstance(metric, Mapping):
        found = {name: _known(m) if isinstance(m, str) else m for name, m in metric.items()}
    elif isinstance(metric, Sequence):
        found = {name: _known(name) for name in metric}
    else:
        return {getattr(metric, "__name__", "metric"): metric}, False
    if not found:
        raise InterpError("no metrics: name at least one")
    return found, True


def _known(name: str) -> Metric:
    if name not in METRICS:
        raise InterpError(f"no metric {name!r}; known: {', '.join(METRICS)}")
    return METRICS[name]


def evaluate_metrics(
    metrics: Mapping[str, Metric], logits: Float[Tensor, "run d_vocab"], pair: PromptPair
) -> Float[Tensor, "metric run"]:
    """Every metric of some runs of one pair, on the CPU in float32.

    Raises:
        InterpError: a metric that does not give one number per run.
    """
    rows = []
    for name, metric in metrics.items():
        value = torch.as_tensor(metric(logits, pair))
        if value.shape != logits.shape[:1]:
            raise InterpError(
                f"metric {name} gave shape {list(value.shape)} for {len(logits)} runs: it must "
                "give one number per run"
            )
        rows.append(value.detach().float().cpu())
    return torch.stack(rows)
