"""The patching calls of TransformerLens's ``Activation_Patching_in_TL_Demo``, on the default model.

Only the import is another one. Of the demo's prompts the first pair is used, in a shorter sentence and
one way round; its induction calls run on one prompt of the default model instead of four of a two-layer
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import einops
import pandas as pd
import pytest
import torch
import transformer_lens.patching as upstream
from torch import Tensor

import interp.patching.drop_in as patching

pytestmark = pytest.mark.model

PROMPTS = [
    "When John and Mary went to the shops, John helped",
    "When John and Mary went to the shops, Mary helped",
]
ANSWERS = (" Mary", " John")


@pytest.fixture(autouse=True)
def gradients_off() -> Iterator[None]:
    """As the demo does, once and for all."""
    with torch.no_grad():
        yield


def random_indices(sizes: Sequence[int], n: int = 3) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(0)
    columns = {
        str(k): torch.randint(0, size, (n,), generator=generator) for k, size in enumerate(sizes)
    }
    return pd.DataFrame({name: column.tolist() for name, column in columns.items()})


def require_transformer_lenss(
    found: Tensor, site: str, setter: Any, order: Sequence[int], *given: Any, last: int = 0
) -> None:
    """A few random entries, run by TransformerLens; ``order``: the setter's places in our axes.

    ``last`` restricts positions (axis 1) to the last ones, where the prompts differ.
    """
    sizes = list(found.shape)
    if last:
        sizes[1] = last
    index = random_indices(sizes).to_numpy().copy()
    if last:
        index[:, 1] += found.shape[1] - last
    expected = upstream.generic_activation_patch(
        *given, setter, site, index_df=pd.DataFrame(index[:, list(order)])
    )
    scale = float(found.max() - found.min())
    ours = found[tuple(torch.from_numpy(index).T)]
    assert float((ours - expected).abs().max()) <= max(1e-4 * scale, 1e-5)


def require_every_head(result: Tensor, by_pos: bool, n_groups: int, *given: Any, last: int) -> None:
    """Output, query, key, value and pattern, ``[5, layer, (pos), head]``."""
    vector = (
        upstream.layer_pos_head_vector_patch_setter
        if by_pos
        else upstream.layer_head_vector_patch_setter
    )
    pattern = (
        upstream.layer_head_pos_pattern_patch_setter
        if by_pos
        else upstream.layer_head_pattern_patch_setter
    )
    for k, site in enumerate(("z", "q", "k", "v", "pattern")):
        found = result[k]
        if site in ("k", "v"):
            assert bool((found[..., n_groups:] == 0).all())
            found = found[..., :n_groups]
        order = range(found.ndim) if site != "pattern" or not by_pos else (0, 2, 1)
        setter = pattern if site == "pattern" else vector
        require_transformer_lenss(found, site, setter, order, *given, last=last if by_pos else 0)


N_LAYERS, N_HEADS, N_GROUPS = 30, 9, 3


@pytest.fixture(scope="module")
def demo(default_model: Any) -> tuple[Any, ...]:
    """The demo's ``model, corrupted_tokens, clean_cache, ioi_metric``."""
    with torch.no_grad():
        return set_up(default_model)


def set_up(model: Any) -> tuple[Any, ...]:
    tokens = model.to_tokens(PROMPTS)
    clean_tokens, corrupted_tokens = tokens[:1], tokens[1:]
    answer_token_indices = torch.tensor([[model.to_single_token(answer) for answer in ANSWERS]])

    def get_logit_diff(
        logits: Tensor, answer_token_indices: Tensor = answer_token_indices
    ) -> Tensor:
        if len(logits.shape) == 3:
            logits = logits[:, -1, :]
        correct_logits = logits.gather(1, answer_token_indices[:, 0].unsqueeze(1))
        incorrect_logits = logits.gather(1, answer_token_indices[:, 1].unsqueeze(1))
        return (correct_logits - incorrect_logits).mean()

    clean_logits, clean_cache = model.run_with_cache(clean_tokens)
    corrupted_logits, _ = model.run_with_cache(corrupted_tokens)
    clean, corrupted = get_logit_diff(clean_logits).item(), get_logit_diff(corrupted_logits).item()
    assert clean > corrupted + 1

    def ioi_metric(logits: Tensor, answer_token_indices: Tensor = answer_token_indices) -> Tensor:
        return (get_logit_diff(logits, answer_token_indices) - corrupted) / (clean - corrupted)

    return model, corrupted_tokens, clean_cache, ioi_metric


def test_the_calls_for_blocks_and_head_outputs(demo: Any) -> None:
    model, corrupted_tokens, clean_cache, ioi_metric = demo
    n = corrupted_tokens.shape[1]
    resid_pre = patching.get_act_patch_resid_pre(model, corrupted_tokens, clean_cache, ioi_metric)
    assert resid_pre.shape == (N_LAYERS, n)
    assert float(resid_pre[0, -2]) == pytest.approx(1, abs=1e-4)  # the name itself
    heads = patching.get_act_patch_attn_head_out_all_pos(
        model, corrupted_tokens, clean_cache, ioi_metric
    )
    assert heads.shape == (N_LAYERS, N_HEADS)
    by_pos = patching.get_act_patch_attn_head_out_by_pos(
        model, corrupted_tokens, clean_cache, ioi_metric
    )
    labelled = einops.rearrange(by_pos, "layer pos head -> (layer head) pos")
    assert labelled.shape == (N_LAYERS * N_HEADS, n)
    blocks = patching.get_act_patch_block_every(model, corrupted_tokens, clean_cache, ioi_metric)
    assert torch.allclose(blocks[0], resid_pre, atol=1e-5)
    for k, site in enumerate(("resid_pre", "attn_out", "mlp_out")):
        require_transformer_lenss(
            blocks[k], site, upstream.layer_pos_patch_setter, (0, 1), *demo, last=2
        )


def test_the_call_for_every_kind_of_activation_at_all_positions(demo: Any) -> None:
    model, corrupted_tokens, clean_cache, ioi_metric = demo
    every = patching.get_act_patch_attn_head_all_pos_every(
        model, corrupted_tokens, clean_cache, ioi_metric
    )
    require_every_head(every, False, N_GROUPS, *demo, last=2)


def test_the_call_for_every_kind_of_activation_by_position(demo: Any) -> None:
    model, corrupted_tokens, clean_cache, ioi_metric = demo
    every = patching.get_act_patch_attn_head_by_pos_every(
        model, corrupted_tokens, clean_cache, ioi_metric
    )
    require_every_head(every, True, N_GROUPS, *demo, last=2)
    labelled = einops.rearrange(every, "act_type layer pos head -> act_type (layer head) pos")
    assert labelled.shape == (5, N_LAYERS * N_HEADS, corrupted_tokens.shape[1])


def test_the_calls_on_repeated_random_tokens(default_model: Any) -> None:
    model, batch, seq_len = default_model, 1, 2
    generator = torch.Generator().manual_seed(0)
    rand_tokens_A, rand_tokens_B, rand_tokens_C = (
        torch.randint(100, 10000, (batch, seq_len), generator=generator) for _ in range(3)
    )
    bos = torch.tensor([model.tokenizer.bos_token_id] * batch)[:, None]

    def induction_loss(logits: Tensor, answer_token_indices: Tensor = rand_tokens_A) -> Tensor:
        seq_len = answer_token_indices.shape[1]
        final_log_probs = logits[:, -seq_len:-1].log_softmax(-1)
        return final_log_probs.gather(-1, answer_token_indices[:, 1:].unsqueeze(-1)).mean()

    _, clean_cache = model.run_with_cache(torch.cat([bos, rand_tokens_A, rand_tokens_A], dim=1))
    for first, second in (
        (rand_tokens_A, rand_tokens_B),
        (rand_tokens_B, rand_tokens_A),
        (rand_tokens_B, rand_tokens_B),
        (rand_tokens_B, rand_tokens_C),
    ):
        corrupted_tokens = torch.cat([bos, first, second], dim=1)
        given = (model, corrupted_tokens, clean_cache, induction_loss)
        every = patching.get_act_patch_attn_head_all_pos_every(
            model, corrupted_tokens, clean_cache, induction_loss
        )
        assert every.shape == (5, N_LAYERS, N_HEADS)
        if first is rand_tokens_A:
            require_every_head(every, False, N_GROUPS, *given, last=2)
            by_pos = patching.get_act_patch_attn_head_by_pos_every(
                model, corrupted_tokens, clean_cache, induction_loss
            )
            assert by_pos.shape == (5, N_LAYERS, 1 + 2 * seq_len, N_HEADS)
            require_every_head(by_pos, True, N_GROUPS, *given, last=2)
