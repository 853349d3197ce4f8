"""Activations: reads of chosen sites over many prompts, and attention patterns."""

from interp.activations.attention import AttentionPatterns, read_attention
from interp.activations.sites import SITES, Site, hook_name
from interp.activations.states import States, read_states

__all__ = [
    "SITES",
    "AttentionPatterns",
    "Site",
    "States",
    "hook_name",
    "read_attention",
    "read_states",
]
