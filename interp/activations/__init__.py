"""Activations: streaming reads of chosen sites over many prompts, and attention patterns."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.activations.attention import AttentionPatterns, read_attention
    from interp.activations.hooks import hook_name
    from interp.activations.places import Places, places_of
    from interp.activations.sites import SITES, Site
    from interp.activations.span_attention import SpanAttention, read_span_attention
    from interp.activations.states import States, read_sites, read_states
    from interp.activations.stream import Prompt, stream

__all__ = [
    "SITES",
    "AttentionPatterns",
    "Places",
    "Prompt",
    "Site",
    "SpanAttention",
    "States",
    "hook_name",
    "places_of",
    "read_attention",
    "read_sites",
    "read_span_attention",
    "read_states",
    "stream",
]

attach(__name__)
