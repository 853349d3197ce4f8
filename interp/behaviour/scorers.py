"""Names of toxicity scorers, checked without loading one: nothing here imports torch."""

from __future__ import annotations

import os
from importlib.util import find_spec

from interp.errors import InterpError, did_you_mean

SCORERS = ("huggingface:ID_OR_FOLDER", "offline")
OFFLINE_PACKAGE = "profanity_check"


def require_scorer(name: str) -> None:
    """Refuse a scorer that cannot be there, without loading one.

    Raises:
        InterpError: an unknown name, a folder that does not exist, or a package that is not installed.
    """
    kind, _, source = name.partition(":")
    if kind == "huggingface" and source:
        require_folder(source)
    elif name != "offline":
        raise unknown_scorer(name)
    elif find_spec(OFFLINE_PACKAGE) is None:
        raise package_missing()


def require_folder(source: str) -> None:
    """Refuse what is spelt as a path and is no folder; a hub id is left to the hub.

    Raises:
        InterpError: names the path.
    """
    if source.startswith((".", "/", "~")) and not os.path.isdir(os.path.expanduser(source)):
        raise InterpError(f"{source}: no such folder")


def unknown_scorer(name: str) -> InterpError:
    """The line for a name of no scorer."""
    return InterpError(f"no toxicity scorer {name!r}; {did_you_mean(name, SCORERS)}")


def package_missing() -> InterpError:
    """The line for a machine without the package of the scorer ``offline``."""
    return InterpError(
        "the scorer 'offline' needs alt-profanity-check: pip install 'interp-workbench[toxicity]'"
    )
