"""Hugging Face models as the plain decoders of :mod:`tests.patching.relp_by_hand`, weight by weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.patching.relp_by_hand import Decoder, Layer, Linear, Norm, gelu, gelu_tanh, silu


@torch.no_grad()
def decoder_of(folder: Path, architecture: str, n: int) -> Decoder:
    """The decoder of a folder, with rotary tables for ``n`` positions."""
    hf = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    if architecture == "gpt2":
        return _gpt2(hf)
    return _neox(hf, n) if architecture == "neox" else _llama_like(hf, architecture, n)


def _linear(module: Any) -> Linear:
    bias = getattr(module, "bias", None)
    return module.weight.T.detach(), None if bias is None else bias.detach()


def _conv1d(module: Any) -> Linear:
    return module.weight.detach(), module.bias.detach()


def _layer_norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), module.eps, centred=True)


def _rms(module: Any, *, offset: bool) -> Norm:
    weight = module.weight.detach()
    eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
    return Norm(1 + weight if offset else weight, None, eps, centred=False)


def _gpt2(hf: Any) -> Decoder:
    body, width = hf.transformer, hf.config.n_embd
    layers = []
    for block in body.h:
        weight, bias = _conv1d(block.attn.c_attn)
        assert bias is not None
        q, k, v = zip(weight.split(width, dim=1), bias.split(width), strict=True)
        layers.append(
            Layer(
                _layer_norm(block.ln_1),
                _layer_norm(block.ln_2),
                q,
                k,
                v,
                _conv1d(block.attn.c_proj),
                up=_conv1d(block.mlp.c_fc),
                down=_conv1d(block.mlp.c_proj),
            )
        )
    heads = hf.config.n_head

    def embed(ids: Tensor) -> Tensor:
        return body.wte.weight.detach()[ids] + body.wpe.weight.detach()[: len(ids)]

    return Decoder(
        layers, embed, _layer_norm(body.ln_f), hf.lm_head.weight.T.detach(), gelu_tanh, heads, heads,
        (width // heads) ** -0.5,
    )  # fmt: skip


def _neox(hf: Any, n: int) -> Decoder:
    body, heads = hf.gpt_neox, hf.config.num_attention_heads
    width = hf.config.hidden_size
    cos, sin = _tables(body.rotary_emb, n)
    layers = []
    for block in body.layers:
        weight, bias = _linear(block.attention.query_key_value)
        assert bias is not None
        # by head its queries, keys and values
        w, b = weight.view(width, heads, 3, -1), bias.view(heads, 3, -1)
        q, k, v = ((w[:, :, i].flatten(1), b[:, i].flatten()) for i in range(3))
        layers.append(
            Layer(
                _layer_norm(block.input_layernorm),
                _layer_norm(block.post_attention_layernorm),
                q,
                k,
                v,
                _linear(block.attention.dense),
                up=_linear(block.mlp.dense_h_to_4h),
                down=_linear(block.mlp.dense_4h_to_h),
                cos=cos,
                sin=sin,
            )
        )
    return Decoder(
        layers, lambda ids: body.embed_in.weight.detach()[ids], _layer_norm(body.final_layer_norm),
        hf.get_output_embeddings().weight.T.detach(), gelu, heads, heads, (width // heads) ** -0.5,
        parallel=hf.config.use_parallel_residual,
    )  # fmt: skip


def _llama_like(hf: Any, architecture: str, n: int) -> Decoder:
    """Llama, Qwen 2, and Gemma 2 and 3, whose norms stand on both sides of attention and MLP."""
    body, config = hf.model, hf.config
    gemma = architecture.startswith("gemma")

    def norm(module: Any) -> Norm:
        return _rms(module, offset=gemma)

    layers = []
    for number, block in enumerate(body.layers):
        attn, mlp = block.self_attn, block.mlp
        kind = config.layer_types[number] if architecture == "gemma3" else None
        cos, sin = _tables(body.rotary_emb, n, *([] if kind is None else [kind]))
        before_mlp = block.pre_feedforward_layernorm if gemma else block.post_attention_layernorm
        layers.append(
            Layer(
                norm(block.input_layernorm),
                norm(before_mlp),
                *map(
                    _linear,
                    (
                        attn.q_proj,
                        attn.k_proj,
                        attn.v_proj,
                        attn.o_proj,
                        mlp.up_proj,
                        mlp.down_proj,
                        mlp.gate_proj,
                    ),
                ),
                q_norm=norm(attn.q_norm) if hasattr(attn, "q_norm") else None,
                k_norm=norm(attn.k_norm) if hasattr(attn, "k_norm") else None,
                ln1_post=norm(block.post_attention_layernorm) if gemma else None,
                ln2_post=norm(block.post_feedforward_layernorm) if gemma else None,
                cos=cos,
                sin=sin,
            )
        )
    size = config.hidden_size**0.5 if gemma else 1.0
    return Decoder(
        layers, lambda ids: body.embed_tokens.weight.detach()[ids] * size, norm(body.norm),
        hf.lm_head.weight.T.detach(), gelu_tanh if gemma else silu, config.num_attention_heads,
        config.num_key_value_heads, body.layers[0].self_attn.scaling,
        score_cap=getattr(config, "attn_logit_softcapping", None),
        logit_cap=getattr(config, "final_logit_softcapping", None),
    )  # fmt: skip


def _tables(rotary: Any, n: int, *kind: str) -> tuple[Tensor, Tensor]:
    cos, sin = rotary(torch.zeros(1, n, 1).double(), torch.arange(n)[None], *kind)
    return cos[0].double(), sin[0].double()
