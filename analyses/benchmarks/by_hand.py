"""A sweep as one writes it by hand with Hugging Face alone: the peer of the patching benchmark.

The best script of about fifty lines that we know, not a straw man. The source is run once, the
destination once with a KV cache. For every layer the copies of the destination's residual stream, one
per cell, go through that layer and those behind it as one batch of ``inputs_embeds``; the cache holds
the tokens before the batch's first patched position, the unembedding sees the last row alone, and no
gradient is kept. A batch of all positions computes T rows for every cell; smaller ones start later in
the prompt and so compute fewer, in smaller products. Which size is best depends on the machine, and
:func:`time_by_hand` tries several.

Values are margins (logit differences, source into destination), as :func:`interp.patching.sweep`'s.
For decoders of :data:`FAMILIES` (blocks of one kind in ``model.model.layers``), prompts of equal length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, DynamicCache

from interp.errors import InterpError

HandSite = Literal["resid_pre", "attn_out", "mlp_out", "z"]


FAMILIES = ("llama", "mistral", "qwen2")
"""Model types whose blocks are as this script takes them."""


def plain_model(model: TransformerBridge) -> Any:
    """The weights that a bridge was loaded from as a Hugging Face model without TransformerLens.

    Raises:
        InterpError: a bridge with processed weights, or without a folder or hub id.
    """
    source = getattr(model.original_model, "name_or_path", "")
    if model.compatibility_mode or not source:
        raise InterpError("a plain copy is read again from the bridge's folder or hub id: load one")
    dtype, device = model.cfg.dtype, model.cfg.device
    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype).to(device).eval()


def is_supported(plain: Any) -> bool:
    """Whether the script is for this model."""
    kinds = set(getattr(plain.config, "layer_types", None) or ["full_attention"])
    return plain.config.model_type in FAMILIES and kinds == {"full_attention"}


@dataclass(frozen=True, eq=False)
class HandSweep:
    """Both unpatched runs; :meth:`layer` patches one layer's cells.

    ``columns``: the positions of the destination from the first difference on, at ``z`` the heads.
    """

    model: Any
    site: HandSite
    target: tuple[int, int]
    start: int
    columns: Int[Tensor, " column"]
    resid: Sequence[Float[Tensor, "1 pos d_model"]]
    keys_values: Sequence[tuple[Tensor, Tensor]]
    source: Sequence[Float[Tensor, "pos width"]]

    @classmethod
    @torch.inference_mode()
    def of(
        cls,
        model: Any,
        source: Int[Tensor, " pos"],
        destination: Int[Tensor, " pos"],
        *,
        site: HandSite,
        target: tuple[int, int],
    ) -> HandSweep:
        """Run source and destination once each."""
        source, destination = source.to(model.device), destination.to(model.device)
        found: list[Tensor] = []
        with hooked([tap(layer, site) for layer in model.model.layers], found.append):
            model(input_ids=source[None], logits_to_keep=1, use_cache=False)
        run = model(
            input_ids=destination[None],
            logits_to_keep=1,
            use_cache=True,
            output_hidden_states=True,
        )
        start = int((source != destination).nonzero()[0])
        n_heads = model.config.num_attention_heads
        columns = torch.arange(n_heads) if site == "z" else torch.arange(start, len(destination))
        return cls(
            model,
            site,
            target,
            start,
            columns,
            run.hidden_states[: len(model.model.layers)],
            [(layer.keys, layer.values) for layer in run.past_key_values.layers],
            [activation[0] for activation in found],
        )

    @torch.inference_mode()
    def layer(self, layer: int, batch: int) -> Float[Tensor, " column"]:
        """The margin of every cell of a layer, ``batch`` cells at a time."""
        return torch.cat([self._run(layer, cells) for cells in self.columns.split(batch)])

    def _run(self, layer: int, cells: Tensor) -> Tensor:
        n, first = len(cells), self.start if self.site == "z" else int(cells[0])

        def patch(activation: Tensor) -> Tensor:
            activation, source = activation.clone(), self.source[layer]
            if self.site == "z":
                rows = activation.unflatten(-1, (len(self.columns), -1))
                heads = source[first:].unflatten(-1, (len(self.columns), -1))
                rows[torch.arange(n), :, cells] = heads[:, cells].transpose(0, 1)
            else:
                activation[torch.arange(n), cells - first] = source[cells]
            return activation

        layers = self.model.model.layers
        with hooked([tap(layers[layer], self.site)], patch), from_layer(self.model.model, layer):
            logits = self.model(
                inputs_embeds=self.resid[layer][:, first:].expand(n, -1, -1),
                past_key_values=self._prefix(first, n),
                logits_to_keep=1,
            ).logits[:, -1]
        return logits[:, self.target[0]] - logits[:, self.target[1]]

    def _prefix(self, length: int, n: int) -> DynamicCache:
        """The destination's cache of its first tokens, for ``n`` rows, without a copy."""
        cache = DynamicCache(config=self.model.config)
        for layer, (keys, values) in zip(cache.layers, self.keys_values, strict=True):
            layer.lazy_initialization(keys, values)
            layer.keys = keys[:, :, :length].expand(n, -1, -1, -1)
            layer.values = values[:, :, :length].expand(n, -1, -1, -1)
        return cache


def tap(layer: Any, site: HandSite) -> tuple[nn.Module, bool]:
    """The module whose input (True) or output (False) is a site's activation."""
    return {
        "resid_pre": (layer, True),
        "attn_out": (layer.self_attn, False),
        "mlp_out": (layer.mlp, False),
        "z": (layer.self_attn.o_proj, True),
    }[site]


@contextmanager
def hooked(
    taps: Sequence[tuple[nn.Module, bool]], change: Callable[[Tensor], Tensor | None]
) -> Iterator[None]:
    """Call ``change`` with every tapped activation, which its answer replaces."""

    def on_input(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        changed = change(inputs[0])
        return None if changed is None else (changed, *inputs[1:])

    def on_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        changed = change(output[0] if isinstance(output, tuple) else output)
        whole = isinstance(output, tuple) and changed is not None
        return (changed, *output[1:]) if whole else changed

    handles = [
        module.register_forward_pre_hook(on_input)
        if is_input
        else module.register_forward_hook(on_output)
        for module, is_input in taps
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def from_layer(decoder: Any, layer: int) -> Iterator[None]:
    """Run the blocks from ``layer`` on alone; each keeps its place in the cache."""
    blocks = decoder.layers
    decoder.layers = blocks[layer:]
    try:
        yield
    finally:
        decoder.layers = blocks


@dataclass(frozen=True, eq=False)
class HandTiming:
    """``seconds`` of a whole sweep by batch size; ``values [layer, column]`` of ``layers``."""

    seconds: dict[int, float]
    layers: list[int]
    values: Float[Tensor, "layer column"]

    @property
    def best(self) -> int:
        """The batch size of the fastest sweep."""
        return min(self.seconds, key=lambda size: self.seconds[size])


def time_by_hand(
    make: Callable[[], HandSweep], *, batches: Sequence[int], n_layers: int
) -> HandTiming:
    """Time a sweep at several batch sizes.

    ``n_layers`` layers are run, evenly from first to last, and count for all: a layer's time grows
    linearly with the number of layers behind it. Each size above the number of cells is that number.
    """
    started = time.perf_counter()
    hand = make()
    runs = time.perf_counter() - started
    total, n_cells = len(hand.source), len(hand.columns)
    n_layers = min(n_layers, total)
    layers = [int((k + 0.5) * total / n_layers) for k in range(n_layers)]
    hand.layer(total - 1, n_cells)  # warm up
    seconds: dict[int, float] = {}
    values = torch.empty(n_layers, n_cells)
    for size in dict.fromkeys(min(size, n_cells) for size in batches):
        started = time.perf_counter()
        values = torch.stack([hand.layer(layer, size) for layer in layers]).cpu()
        # the layers timed have this mean number of layers behind them, all layers that one
        own = sum(total - layer for layer in layers) / n_layers
        share = (total + 1) / 2 / own
        seconds[size] = runs + (time.perf_counter() - started) * share * total / n_layers
    return HandTiming(seconds, layers, values)
