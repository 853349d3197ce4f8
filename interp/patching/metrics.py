"""What is read at the end of a patched run: numbers of the logits at the last position.

The option margin is the exception: it reads both options' full texts, teacher-forced behind the
prompt (:mod:`interp.patching.branches`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.prompts import MarginTarget, OptionTokens, PromptPair, require_context

Metric: TypeAlias = Callable[[Tensor, PromptPair], Tensor]
"""``metric(logits [run, d_vocab], pair) -> [run]``: one number per run, from its last position."""


def margin(logits: Float[Tensor, "run d_vocab"], pair: PromptPair) -> Float[Tensor, " run"]:
    """The margin, or logit difference: logit(a) - logit(b) in nats; + is the better answer."""
    target = target_of(pair)
    return logits[:, target.a] - logits[:, target.b]


def log_prob(logits: Float[Tensor, "run d_vocab"], pair: PromptPair) -> Float[Tensor, " run"]:
    """Log-probability of the better answer's token, in nats."""
    return torch.log_softmax(logits, dim=-1)[:, target_of(pair).a]


def option_margin(
    logits: Float[Tensor, "run read d_vocab"], pair: PromptPair
) -> Float[Tensor, " run"]:
    """The option margin: mean log P over the tokens of option a's text minus that of b, nats per token.

    Unlike the other metrics it takes the logits of all rows of :func:`reading_of`: the prompt's from
    the answer prefix on, then those of either option behind it, teacher-forced.
    """
    options = options_of(pair)
    norms = logits.logsumexp(dim=-1)
    first = options.n_shared + 1
    means, start = [], first
    for ids, branch in zip((options.a, options.b), options.branches, strict=True):
        rows = torch.tensor([*range(first), *range(start, start + len(branch))])
        start += len(branch)
        means.append((logits[:, rows, ids.to(logits.device)] - norms[:, rows]).mean(dim=-1))
    return means[0] - means[1]


METRICS: dict[str, Metric] = {
    "margin": margin,
    "log_prob": log_prob,
    "option_margin": option_margin,
}


def reads_options(metrics: Mapping[str, Metric]) -> bool:
    """Whether some metric reads the options' full texts."""
    return option_margin in metrics.values()


def reading_of(
    prompt: Int[Tensor, " pos"], pair: PromptPair, metrics: Mapping[str, Metric]
) -> Reading:
    """What is run and read behind a prompt of a pair: its last position, or all of both options."""
    last = len(prompt) - 1
    if not reads_options(metrics):
        return Reading(prompt, torch.tensor([last]))
    options = options_of(pair)
    more = sum(len(branch) for branch in options.branches)
    read = torch.arange(last - options.n_shared, last + 1 + more)
    return Reading(prompt, read, options.branches)


def target_of(pair: PromptPair) -> MarginTarget:
    """The pair's margin tokens.

    Raises:
        InterpError: the pair has none.
    """
    if pair.target is None:
        raise InterpError(f"{pair.label}: no margin target; no token distinguishes its options")
    return pair.target


def options_of(pair: PromptPair) -> OptionTokens:
    """The pair's options.

    Raises:
        InterpError: the pair has none.
    """
    if pair.options is None:
        raise InterpError(
            f"{pair.label}: no options, so no option margin: its item contrasts none, or give "
            "make_pair options=(ids a, ids b)"
        )
    return pair.options


def require_target(
    model: TransformerBridge, pairs: Sequence[PromptPair], metrics: Mapping[str, Metric]
) -> None:
    """Refuse pairs without what a metric reads: a margin, options that fit into the context."""
    chosen = set(metrics.values())
    for pair in pairs:
        if chosen & {margin, log_prob}:
            target_of(pair)
        if option_margin in chosen:
            longest = max(len(branch) for branch in options_of(pair).branches)
            for prompt in (pair.source, pair.destination):
                label = f"{prompt.label} with its options"
                require_context(label, len(prompt) + longest, model.cfg.n_ctx)


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
    metrics: Mapping[str, Metric], logits: Float[Tensor, "run read d_vocab"], pair: PromptPair
) -> Float[Tensor, "metric run"]:
    """Every metric of some runs of one pair, on the CPU in float32.

    ``logits``: at the rows of the :func:`reading_of` these metrics.

    Raises:
        InterpError: a metric that does not give one number per run.
    """
    rows = []
    for name, value in apply_metrics(metrics, logits, pair).items():
        if value.shape != logits.shape[:1]:
            raise InterpError(
                f"metric {name} gave shape {list(value.shape)} for {len(logits)} runs: it must "
                "give one number per run"
            )
        rows.append(value.detach().float().cpu())
    return torch.stack(rows)


def apply_metrics(
    metrics: Mapping[str, Metric], logits: Float[Tensor, "run read d_vocab"], pair: PromptPair
) -> dict[str, Tensor]:
    """The metrics' own values, with their graph."""
    last = options_of(pair).n_shared if reads_options(metrics) else 0
    return {
        name: torch.as_tensor(metric(logits if metric is option_margin else logits[:, last], pair))
        for name, metric in metrics.items()
    }
