"""Asking a study before anything heavy is loaded: what cannot be is refused at once.

Importing torch, transformers and TransformerLens takes many times as long as a mistake in an option
deserves. So a command asks first, with what needs none of them: the names of models, data sets,
conditions and sites, files and folders, and everything else that a study refuses without a model.

    asked = ask("patch", PatchConfig(items="bbq:Age"))
    run(Patch(), asked.config, asked=asked)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyses.config import RULES, StudyConfig
from analyses.registry import load_ask
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.models.names import require_model
from interp.runs.canonical import to_json_values
from interp.runs.manifest import (
    MANIFEST_NAME,
    read_manifest,
    refuse_foreign,
    refuse_other_identity,
)

NOT_COMPARED = (
    "config.out", "config.page", "config.png", "config.template_date", "config.device", "config.dtype",
    "model.checks", "model.versions",
)  # fmt: skip
"""What may differ between a run and its resumption; the model's card has its date, device and dtype."""


def ask(name: str, config: StudyConfig, *, progress: bool = True) -> Any:
    """What a study of the command line asks, everything checked that can be without a model.

    Raises:
        InterpError: what cannot be, in one line.
    """
    require_model(config.model)
    require_folder(name, config)
    return load_ask(name)(config, progress=progress)


def require_folder(study: str, config: StudyConfig) -> None:
    """Refuse a folder that holds something else, or a run of something else.

    Raises:
        InterpError: names the folder and each difference.
    """
    refuse_foreign(config.out)
    if not (config.out / MANIFEST_NAME).exists():
        return
    known = {
        "study": study,
        "config": to_json_values(config, "config"),
        "rules": to_json_values(RULES, "rules"),
    }
    refuse_other_identity(config.out, read_manifest(config.out), known, ignore=NOT_COMPARED)


def require_clusters(items: Sequence[ChoiceItem], why: str) -> None:
    """Refuse items of a single cluster where ``why`` takes two.

    Raises:
        InterpError: they are of one; begins with ``why``.
    """
    if len({item.cluster for item in items}) < 2:
        raise InterpError(
            f"{why}, and the items are of a single cluster: raise --limit, or name other --items"
        )
