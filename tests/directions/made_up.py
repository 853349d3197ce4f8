"""What the tests of directions share: constructed states, and a model with a planted direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.data.items import LabelledText
from interp.directions import DirectionFacts, DirectionStack
from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_tables import ContrastSample
from interp.directions.scores import ShuffledNull
from interp.stats import Interval

D_MODEL = 24
N_LAYERS, N_TEXTS = 2, 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels_of(n_pairs: int) -> Tensor:
    """Positive, negative, positive, ..."""
    return torch.tensor([True, False] * n_pairs)


def paired_groups(n_pairs: int) -> list[str]:
    return [f"g{k // 2}" for k in range(2 * n_pairs)]


def planted(
    n_pairs: int,
    *,
    strength: float,
    d_model: int = D_MODEL,
    layers: int = 2,
    mean: float = 5.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Noise of unit variance about a mean, moved along one unit vector per layer by the label."""
    truth = torch.nn.functional.normalize(noise(layers, d_model, seed=seed + 1000), dim=1)
    signs = torch.where(labels_of(n_pairs), 1.0, -1.0)
    states = mean + noise(layers, 2 * n_pairs, d_model, seed=seed)
    return states + strength * signs[None, :, None] * truth[:, None], truth


def paired_texts(n_groups: int) -> list[LabelledText]:
    """Two sentences per group, one of either label."""
    return [
        LabelledText(f"sentence {group} {label}", label, f"g{group}", "made up")
        for group in range(n_groups)
        for label in (1, 0)
    ]


def facts(method: str = "mean_difference", *, fingerprint: str = "f") -> DirectionFacts:
    return DirectionFacts(method, "made up", "hash", 10, fingerprint, "raw")


def words(tokenizer: Any) -> list[str]:
    """Words that are one token each after a space, in a fixed order."""
    found = []
    for token in sorted(tokenizer.get_vocab()):
        word = token[1:]
        if token.startswith("Ġ") and word.isalpha() and len(_ids(tokenizer, " " + word)) == 1:
            found.append(word)
    return found[: len(found) // 2 * 2]


def word_texts(tokenizer: Any, n_pairs: int) -> list[LabelledText]:
    """Pairs of "The" and six words: every second word for label 1, the others for label 0."""
    generator = torch.Generator().manual_seed(7)
    choice = words(tokenizer)
    texts = []
    for pair in range(n_pairs):
        for label in (1, 0):
            own = choice[1 - label :: 2]
            drawn = torch.randint(len(own), (6,), generator=generator).tolist()
            text = " ".join(["The", *(own[k] for k in drawn)])
            texts.append(LabelledText(text, label, f"g{pair}", "made up"))
    return texts


@torch.no_grad()
def plant(model: Any, tokenizer: Any, *, strength: float) -> Tensor:
    """Write a unit axis into the embeddings of a GPT-2 or Llama, for layer 0 to carry to the end.

    The words of label 1 get + ``strength`` of the axis, those of label 0 -, all other tokens none.
    Attention averages over all tokens (its queries are 0) and copies what it reads; the MLP of the
    layer writes nothing.
    """
    embedding = model.get_input_embeddings().weight
    d_model = embedding.shape[1]
    truth = noise(d_model, seed=5)
    truth = torch.nn.functional.normalize(truth - truth.mean(), dim=0)  # past LayerNorm's centring
    embedding.copy_(noise(*embedding.shape, seed=6))
    embedding -= (embedding @ truth)[:, None] * truth
    tokens = [_ids(tokenizer, " " + word)[0] for word in words(tokenizer)]
    for up, down in zip(tokens[::2], tokens[1::2], strict=False):
        embedding[down] = embedding[up]  # nothing but the axis tells the two groups apart
        embedding[up] += strength * truth
        embedding[down] -= strength * truth
    basis = noise(d_model, d_model, seed=8)
    basis[0] = truth
    copy = _copy_gpt2 if model.config.model_type == "gpt2" else _copy_llama
    copy(model, torch.linalg.qr(basis.T).Q.T)
    return truth


def _copy_gpt2(model: Any, basis: Tensor) -> None:
    """Values of layer 0 are the coordinates in an orthonormal basis, written back as such."""
    block = model.transformer.h[0]
    block.attn.c_attn.weight.zero_()
    block.attn.c_attn.weight[:, 2 * len(basis) :] = basis.T
    block.attn.c_proj.weight.copy_(basis)
    block.mlp.c_proj.weight.zero_()


def _copy_llama(model: Any, basis: Tensor) -> None:
    """The same for the first coordinates: two query heads read one value head, one writes."""
    block = model.model.layers[0]
    attention, d_head = block.self_attn, model.config.head_dim
    attention.q_proj.weight.zero_()
    attention.v_proj.weight.copy_(basis[: attention.v_proj.weight.shape[0]])
    attention.o_proj.weight.zero_()
    for group in range(model.config.num_key_value_heads):
        written = basis[group * d_head : (group + 1) * d_head].T
        attention.o_proj.weight[:, 2 * group * d_head : (2 * group + 1) * d_head] = written
    block.mlp.down_proj.weight.zero_()


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def two_layers() -> DirectionStack:
    """AUC .6 and .9, so that the second layer is the best one."""
    auc = np.array([0.6, 0.9])
    counts = np.full(2, 40)
    none = np.full(2, np.nan)
    return DirectionStack(
        vectors=torch.eye(2),
        scales=torch.ones(2),
        offsets=torch.zeros(2),
        layers=(0, 1),
        site="resid_post",
        facts=DirectionFacts("mean_difference", "s", "h", 40, "f", "raw"),
        auc=Interval(auc, auc - 0.1, auc + 0.05, counts, counts),
        shuffled=ShuffledNull(none, none, none, none, 0),
    )


def contrast_sample(
    *, n_clusters: int = 8, shift: float = 2.0, null_shift: float = 0.0
) -> ContrastSample:
    """Noise of SD 1; at layer 1 the instruction adds ``shift``, along nulls ``null_shift``."""
    rng = np.random.default_rng(0)
    kinds = ["covariance"] * 30 + ["contrast"] * 2
    arrays = ContrastArrays.empty(
        [f"c{k}" for k in range(n_clusters)],
        ["last"],
        {"instructed": N_TEXTS, "revealing": 1},
        n_cells=N_LAYERS,
        n_parts=2,
        n_nulls=[N_LAYERS * len(kinds)],
    )
    arrays.fixed[0] = False
    arrays.measured[:] = rng.normal(size=arrays.measured.shape)
    treated, _ = arrays.arms("instructed")
    arrays.measured[0, treated, :, 1] += shift
    arrays.parts[:] = arrays.measured[..., 1, :1] * [1.0, 0.0]
    n = n_clusters * N_TEXTS
    arrays.null_sums[0] += np.array([null_shift * n, 0.0, n])[:, None]
    cells = {"component": "resid_post", "layer": [0, 1], "head": -1, "scale": 1.0, "offset": 0.0}
    parts = {"label": ["L1 MLP", "L1H0"], "component": ["mlp_out", "head"], "layer": 1, "head": -1}
    names = [f"null {k}" for k in range(len(kinds))]
    nulls = pd.DataFrame({"position": "last", "kind": kinds, "name": names})
    return ContrastSample(arrays, pd.DataFrame(cells), pd.DataFrame(parts), nulls, two_layers(), 0)
