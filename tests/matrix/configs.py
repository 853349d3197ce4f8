"""A tiny configuration of every causal decoder class that TransformerLens and transformers both know.

Layers are of mixed kinds wherever a configuration allows it (sliding and full attention, rotary and
none, dense and experts, attention and a recurrence), since a layer of the other kind is what a check of
one layer misses.
"""

from __future__ import annotations

from typing import Any

from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

N_LAYERS = 4
N_CTX = 256
WINDOW = 12

_FULL, _SLIDING = "full_attention", "sliding_attention"
_MIXED = [_SLIDING, _SLIDING, _FULL, _SLIDING]

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": N_CTX,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.3,
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_WINDOWED = {**_GROUPED, "sliding_window": WINDOW, "layer_types": _MIXED}
_GEMMA = {**_WINDOWED, "query_pre_attn_scalar": 8}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_GROUPS = {"n_group": 2, "topk_group": 1}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", _FULL, "linear_attention", _FULL],
}
_MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
_GEMMA4 = {
    **_WINDOWED,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 512,
    "num_kv_shared_layers": 0,
    "layer_types": [_SLIDING, _FULL, _SLIDING, _FULL],
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

_FIELDS: dict[str, dict[str, Any]] = {
    "AfmoeForCausalLM": {**_WINDOWED, **_EXPERTS, "num_dense_layers": 1, "num_shared_experts": 1},
    "ApertusForCausalLM": _GROUPED,
    "ArceeForCausalLM": _GROUPED,
    "BambaForCausalLM": {**_GROUPED, **_MAMBA2, "attn_layer_indices": [1, 3]},
    "BertLMHeadModel": {"is_decoder": True},
    "BitNetForCausalLM": _GROUPED,
    "BloomForCausalLM": {"n_layer": N_LAYERS, "n_head": 4},
    "CodeGenForCausalLM": {
        "n_embd": 32,
        "n_layer": N_LAYERS,
        "n_head": 4,
        "n_positions": N_CTX,
        "n_ctx": N_CTX,
        "rotary_dim": 4,
    },
    "Cohere2ForCausalLM": _WINDOWED,
    "CohereForCausalLM": _GROUPED,
    "DeepseekV2ForCausalLM": {**_LATENT, **_EXPERTS, **_GROUPS, "first_k_dense_replace": 1},
    "DeepseekV3ForCausalLM": {**_LATENT, **_EXPERTS, **_GROUPS, "first_k_dense_replace": 1},
    "DeepseekV4ForCausalLM": {
        **_LATENT,
        **_EXPERTS,
        "head_dim": 8,
        "num_key_value_heads": 1,
        "o_lora_rank": 16,
        "o_groups": 2,
        "index_head_dim": 8,
        "index_n_heads": 2,
        "index_topk": 8,
        "sliding_window": WINDOW,
    },
    "Ernie4_5ForCausalLM": _GROUPED,
    "Ernie4_5_MoeForCausalLM": {
        **_GROUPED,
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_intermediate_size": 16,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
    },
    "Exaone4ForCausalLM": _WINDOWED,
    "FalconForCausalLM": {"multi_query": True},
    "FalconH1ForCausalLM": {**_GROUPED, **_MAMBA2, "mamba_d_ssm": 64},
    "FlexOlmoForCausalLM": {**_GROUPED, **_EXPERTS},
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "n_positions": N_CTX},
    "GPTBigCodeForCausalLM": {
        "n_embd": 32,
        "n_layer": N_LAYERS,
        "n_head": 4,
        "n_positions": N_CTX,
        "multi_query": True,
    },
    "GPTJForCausalLM": {
        "n_embd": 32,
        "n_layer": N_LAYERS,
        "n_head": 4,
        "n_positions": N_CTX,
        "rotary_dim": 4,
    },
    "GPTNeoForCausalLM": {
        "num_layers": N_LAYERS,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "window_size": WINDOW,
    },
    "Gemma2ForCausalLM": _GEMMA,
    "Gemma3ForCausalLM": _GEMMA,
    "Gemma4ForCausalLM": _GEMMA4,
    "GemmaForCausalLM": _GROUPED,
    "Glm4ForCausalLM": _GROUPED,
    "Glm4MoeForCausalLM": {**_GROUPED, **_EXPERTS, **_GROUPS, "first_k_dense_replace": 1},
    "Glm4MoeLiteForCausalLM": {**_LATENT, **_EXPERTS, **_GROUPS},
    "GlmForCausalLM": _GROUPED,
    "GlmMoeDsaForCausalLM": {
        **_LATENT,
        **_EXPERTS,
        **_GROUPS,
        "index_topk": 8,
        "index_head_dim": 8,
        "index_n_heads": 2,
    },
    "GptOssForCausalLM": {**_WINDOWED, **_EXPERTS},
    "GraniteForCausalLM": {
        **_GROUPED,
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
    },
    "GraniteMoeForCausalLM": {**_GROUPED, **_EXPERTS, "residual_multiplier": 0.5},
    "GraniteMoeHybridForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        **_MAMBA2,
        "shared_intermediate_size": 16,
        "layer_types": ["mamba", "attention", "mamba", "attention"],
    },
    "HrmTextForCausalLM": _GROUPED,
    "HunYuanDenseV1ForCausalLM": _GROUPED,
    "Jais2ForCausalLM": _GROUPED,
    "JambaForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 0,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "JetMoeForCausalLM": {
        **_EXPERTS,
        "num_key_value_heads": 2,
        "kv_channels": 8,
    },
    "LagunaForCausalLM": {**_WINDOWED, **_EXPERTS},
    "Lfm2ForCausalLM": {**_GROUPED, "layer_types": ["conv", _FULL, "conv", _FULL]},
    "Lfm2MoeForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        "num_dense_layers": 1,
        "layer_types": ["conv", _FULL, "conv", _FULL],
    },
    "Llama4ForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        "intermediate_size_mlp": 64,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 1, 1, 0],
        "attention_chunk_size": WINDOW,
    },
    "LlamaForCausalLM": _GROUPED,
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "MambaForCausalLM": {"state_size": 8},
    "MiniMaxM2ForCausalLM": {**_GROUPED, **_EXPERTS},
    "Ministral3ForCausalLM": _GROUPED,
    "MistralForCausalLM": {**_GROUPED, "sliding_window": WINDOW},
    "MixtralForCausalLM": {**_GROUPED, **_EXPERTS},
    "ModernBertDecoderForCausalLM": {
        "layer_types": _MIXED,
        "local_attention": WINDOW,
        "cls_token_id": 0,
        "sep_token_id": 1,
    },
    "MptForCausalLM": {"d_model": 32, "n_layers": N_LAYERS, "n_heads": 4, "max_seq_len": N_CTX},
    "NanoChatForCausalLM": _GROUPED,
    "NemotronForCausalLM": _GROUPED,
    "NemotronHForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        **_GROUPS,
        "hybrid_override_pattern": "M*-*",
        "layers_block_type": ["mamba", "attention", "mamba", "moe"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
    "OPTForCausalLM": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "Olmo3ForCausalLM": _WINDOWED,
    "OlmoHybridForCausalLM": {**_GROUPED, **_LINEAR},
    "OlmoeForCausalLM": {**_GROUPED, **_EXPERTS},
    "OpenAIGPTLMHeadModel": {"n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "n_positions": N_CTX},
    "Phi3ForCausalLM": {"num_key_value_heads": 2},
    "Qwen2ForCausalLM": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
    },
    "Qwen2MoeForCausalLM": {
        "num_key_value_heads": 2,
        **_EXPERTS,
        "shared_expert_intermediate_size": 16,
        "mlp_only_layers": [0],
    },
    "Qwen3ForCausalLM": {
        **_GROUPED,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
    },
    "Qwen3MoeForCausalLM": {**_GROUPED, **_EXPERTS, "mlp_only_layers": [0]},
    "Qwen3NextForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        **_LINEAR,
        "shared_expert_intermediate_size": 16,
    },
    "Qwen3_5ForCausalLM": {**_GROUPED, **_LINEAR},
    "Qwen3_5MoeForCausalLM": {
        **_GROUPED,
        **_EXPERTS,
        **_LINEAR,
        "shared_expert_intermediate_size": 16,
    },
    "RecurrentGemmaForCausalLM": {
        **_GROUPED,
        "lru_width": 32,
        "attention_window_size": WINDOW,
        "block_types": ["recurrent", "attention"],
    },
    "RwkvForCausalLM": {"attention_hidden_size": 32, "context_length": N_CTX},
    "SeedOssForCausalLM": _GROUPED,
    "SmolLM3ForCausalLM": {**_GROUPED, "no_rope_layers": [1, 0, 1, 0]},
    "StableLmForCausalLM": {"num_key_value_heads": 2},
    "Starcoder2ForCausalLM": {"num_key_value_heads": 2, "sliding_window": WINDOW},
    "VaultGemmaForCausalLM": _GEMMA,
    "XGLMForCausalLM": {
        "d_model": 32,
        "ffn_dim": 64,
        "num_layers": N_LAYERS,
        "attention_heads": 4,
    },
    "YoutuForCausalLM": _LATENT,
    "Zamba2ForCausalLM": {
        "num_key_value_heads": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "num_mem_blocks": 1,
        "chunk_size": 16,
    },
    "Gemma3ForConditionalGeneration": {
        "text_config": {**_COMMON, **_GEMMA},
        "vision_config": _VISION,
        "mm_tokens_per_image": 4,
    },
    "Gemma3nForConditionalGeneration": {
        "text_config": {**_COMMON, **_WINDOWED, "activation_sparsity_pattern": [0.0] * N_LAYERS},
    },
    "Gemma4ForConditionalGeneration": {"text_config": {**_COMMON, **_GEMMA4}},
    "Gemma4UnifiedForConditionalGeneration": {"text_config": {**_COMMON, **_GEMMA4}},
}
"""What each class's configuration is given besides the common fields; an unknown field is ignored."""


def causal_classes() -> list[str]:
    """Every class that transformers maps to causal language models and TransformerLens adapts."""
    both = {name for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for name in _all(names)}
    return sorted(both & SUPPORTED_ARCHITECTURES.keys())


def tiny_config(class_name: str, vocab_size: int) -> Any:
    """A configuration of a class with four layers of width 32."""
    fields: dict[str, Any] = {**_COMMON, **_FIELDS.get(class_name, {})}
    if "text_config" in fields:
        fields = {**fields, "text_config": {**fields["text_config"], "vocab_size": vocab_size}}
    return CONFIG_MAPPING[_model_type(class_name)](
        **{"vocab_size": vocab_size, **fields, "architectures": [class_name]}
    )


def _model_type(class_name: str) -> str:
    """The last of those that name the class: the ones before are older names or wrappers."""
    return [
        model_type
        for model_type, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if class_name in _all(names) and model_type in CONFIG_MAPPING
    ][-1]


def _all(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
