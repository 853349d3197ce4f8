"""Models with random weights of a shape, made where they run: no copy passes through the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.data import load_items, load_texts
from interp.models import Provenance
from interp.models.card import attach_card

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama; ``d_head`` is ``d_model / n_heads``."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_key_value_heads: int
    d_mlp: int
    d_vocab: int
    tied: bool

    def cut(self, n_layers: int) -> Shape:
        """Its first layers, with few tokens: what a CPU can run too."""
        n_layers, d_vocab = min(n_layers, self.n_layers), min(32_000, self.d_vocab)
        return replace(self, name=f"{self.name}, cut", n_layers=n_layers, d_vocab=d_vocab)


SHAPES = (
    Shape("llama-1b", 16, 2048, 32, 8, 8192, 128_256, tied=True),  # Llama 3.2 1B
    Shape("llama-7b", 32, 4096, 32, 32, 11_008, 32_000, tied=False),  # Llama 2 7B
)
TINY = (
    Shape("tiny-grouped", 3, 32, 4, 2, 64, 1024, tied=True),
    Shape("tiny", 3, 32, 4, 4, 64, 1024, tied=False),
)


def random_weights(
    shape: Shape, device: str | torch.device, dtype: torch.dtype, seed: int = 0
) -> Any:
    """A transformers model of this shape.

    Weights are normal and scaled so that a matrix keeps the length of a vector, whatever the width.
    Equal seeds give equal weights on one kind of device.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=shape.n_layers,
        hidden_size=shape.d_model,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_key_value_heads,
        intermediate_size=shape.d_mlp,
        vocab_size=shape.d_vocab,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=shape.d_model**-0.5,
    )
    cards = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(cards), torch.device(device):
        torch.manual_seed(seed)
        return LlamaForCausalLM._from_config(config, dtype=dtype).eval()


def bridge_of(model: Any, name: str) -> TransformerBridge:
    """A bridge of a transformers model, with a tokenizer of the bundled texts and self-checks run."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        # TransformerLens reads it again, from where it came
        byte_pairs(int(model.config.vocab_size)).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=model, tokenizer=tokenizer, dtype=model.dtype
        )
    bridge.eval()
    attach_card(bridge, Provenance(name, "random weights", "none"))
    return bridge


def byte_pairs(most: int) -> Any:
    """A byte-level BPE tokenizer of at most so many tokens, trained on the bundled texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(most, 4096),
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_bundled(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _bundled() -> Iterator[str]:
    items = load_items("bundled")
    yield from chain.from_iterable((item.context, item.question) for item in items)
    yield from (choice.text for item in items for choice in item.choices)
    yield from (text.text for text in load_texts("bundled:morality"))
