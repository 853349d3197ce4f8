"""Shared fixtures: tiny random models of several architectures, with a real tokenizer and template.

The weights are random but large (std 0.3), so that attention, norms and patches have effects far
above rounding. Everything is built in a few seconds and needs no network.
"""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings

import tests.typechecked  # noqa: F401  pyproject.toml names its function to jaxtyping's hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# no test asserts wall-clock time: a busy machine is no fault
settings.register_profile("project", deadline=None)
settings.load_profile("project")
if "PYTEST_XDIST_WORKER" in os.environ:  # the process that starts the workers needs no torch
    import torch

    torch.set_num_threads(1)  # the workers share the cores


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--one-in 10``: a tenth of every slow family, which is what ``make test`` runs."""
    parser.addoption(
        "--one-in",
        type=int,
        default=1,
        help="of each slow test with many cases run one case in N (at least one), always the same",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other cases; by a hash of their names, so that no factor of a grid is favoured."""
    families: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow") and hasattr(item, "callspec"):
            families[item.nodeid.partition("[")[0]].append(item)
    left_out: set[pytest.Item] = set()
    for cases in families.values():
        cases.sort(key=lambda item: crc32(item.nodeid.encode()))
        left_out.update(cases[ceil(len(cases) / config.getoption("--one-in")) :])
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules live to the end: to look through them again takes a full collection most of a second."""
    gc.collect()
    gc.freeze()


ARCHITECTURES = ("gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_CORPUS = [
    "The quick brown fox met the old teacher and the young farmer near the river.",
    "Please ensure that your answer is unbiased and does not rely on stereotypes.",
    "(a) The teacher\n(b) The farmer\n(c) Cannot be determined",
    "The single, most likely answer choice is",
    "Who was more careful with the money? It is not known from the text who it was.",
]


def make_tokenizer(*, chat: bool = True) -> Any:
    """A small byte-level BPE tokenizer: any text, every byte, character offsets."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_CORPUS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_config(
    architecture: str, vocab_size: int, *, sliding_window: int = 4096, **fields: Any
) -> Any:
    """A tiny configuration of one architecture; ``fields`` of its own (a soft cap) are added."""
    import transformers as hf

    common = {
        "vocab_size": vocab_size,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        **fields,
    }
    decoder = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        **common,
    }
    grouped = {**decoder, "num_key_value_heads": 2, "head_dim": 8}
    gemma = {**grouped, "sliding_window": sliding_window, "query_pre_attn_scalar": 8}
    configs: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: hf.GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=1024, **common),
        "llama": lambda: hf.LlamaConfig(**grouped),
        "qwen2": lambda: hf.Qwen2Config(**{k: v for k, v in grouped.items() if k != "head_dim"}),
        "gemma": lambda: hf.GemmaConfig(**grouped),
        "gemma2": lambda: hf.Gemma2Config(**gemma),
        "gemma3": lambda: hf.Gemma3TextConfig(**gemma),
        "neox": lambda: hf.GPTNeoXConfig(**decoder),
        "opt": lambda: hf.OPTConfig(
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=1024,
            word_embed_proj_dim=32,
            **common,
        ),
        "phi": lambda: hf.PhiConfig(**decoder),
    }
    config = configs[architecture]()
    config.initializer_range = 0.3
    return config


def build_folder(
    architecture: str,
    folder: Path,
    *,
    chat: bool = True,
    random_vectors: bool = False,
    **options: Any,
) -> Path:
    """Save a tiny random model and its tokenizer as a Hugging Face folder.

    ``random_vectors``: biases and norm weights are random too, not the 0 and 1 they start from.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(chat=chat)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(architecture, len(tokenizer), **options))
    if random_vectors:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.3 * torch.randn_like(parameter)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_folder("llama", chat=True)``: a folder, built once per session."""
    built: dict[Any, Path] = {}

    def get(architecture: str, *, chat: bool = True, **options: Any) -> Path:
        key = (architecture, chat, tuple(options.items()))
        if key not in built:
            folder = tmp_path_factory.mktemp(f"{architecture}-{'chat' if chat else 'plain'}")
            built[key] = build_folder(architecture, folder, chat=chat, **options)
        return built[key]

    return get


@pytest.fixture(scope="session")
def load_tiny(tiny_folder: Callable[..., Path]) -> Callable[..., Any]:
    """``load_tiny("gemma2", compatibility_mode=False)``: a bridge, loaded once per session."""
    loaded: dict[Any, Any] = {}

    def get(
        architecture: str,
        *,
        chat: bool = True,
        compatibility_mode: bool = False,
        **options: Any,
    ) -> Any:
        from interp.models import load_model

        key = (architecture, chat, compatibility_mode, tuple(options.items()))
        if key not in loaded:
            folder = tiny_folder(architecture, chat=chat, **options)
            loaded[key] = load_model(folder, compatibility_mode=compatibility_mode)
        return loaded[key]

    return get


@pytest.fixture(scope="session")
def tiny_model(load_tiny: Callable[..., Any]) -> Any:
    """A tiny random Llama with grouped-query attention and a chat template."""
    return load_tiny("llama")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tiny byte-level tokenizer with a chat template."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def bbq() -> tuple[Any, ...]:
    """All items of BBQ, read once: a minute where every row's types are checked."""
    from interp.data import load_items

    return load_items("bbq")


@pytest.fixture(scope="session")
def default_model() -> Any:
    """The real default model, fetched once into the cache."""
    from interp.models import load_model

    return load_model()
