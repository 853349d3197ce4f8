"""Draws that depend on a seed and on a name alone: on no machine, order or number of draws.

Each name has a number of its own under a seed and a purpose, the hash of the three. So names sorted
by their numbers are in random order, and the order of some does not change when others join.

Example::

    uniform(0, "verdict", "Age-1")      # always the same number in [0, 1)
"""

from __future__ import annotations

import hashlib


def uniform(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
