"""Rooms load their names on first use: what is light stays light, and every name is what it was."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import interp

HEAVY = ("torch", "transformers", "transformer_lens", "numpy", "pandas", "scipy", "sklearn")
LIGHT = (
    "interp",
    "interp.activations.sites",
    "interp.behaviour",
    "interp.data.bundle",
    "interp.data.catalogue",
    "interp.data.items",
    "interp.directions.names",
    "interp.errors",
    "interp.fetch",
    "interp.lens",
    "interp.models.catalogue",
    "interp.patching.sites",
    "interp.prompts.conditions",
    "interp.prompts.conversation",
    "interp.prompts.presets",
    "interp.prompts.slots",
    "interp.viz",
)
LIGHT_NAMES = (
    "from interp.activations import SITES, Site",
    "from interp.data import ChoiceItem, dataset_names",
    "from interp.directions import COMPONENTS, METHODS, Component",
    "from interp.models import DEFAULT_MODEL, model_names",
    "from interp.patching import Cells, PatchSite, SweepSite",
    "from interp.prompts import Condition, ConditionSpec, InstructionTurn, Placement",
)
ROOMS = tuple(
    name
    for name in ("interp", *(f"interp.{m.name}" for m in pkgutil.iter_modules(interp.__path__)))
    if hasattr(importlib.import_module(name), "_exports")
)


def in_a_fresh_process(code: str) -> str:
    """What the code prints; it fails the test if it raises."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("lines", [[f"import {m}" for m in LIGHT], LIGHT_NAMES])
def test_light_modules_and_names_import_nothing_heavy(lines: list[str]) -> None:
    loop = f"for line in {list(lines)!r}:\n    exec(line)\n    "
    printed = f"print(*(f'{{line}}: {{m}}' for m in {HEAVY!r} if m in sys.modules), sep='\\n')"
    assert in_a_fresh_process(f"import sys\n{loop}{printed}").split() == []


@pytest.mark.parametrize(
    "command", ["--help", "models list", "data list", "conditions", "patch --help"]
)
def test_commands_that_compute_nothing_import_nothing_heavy(command: str) -> None:
    code = (
        f"import sys; sys.argv = ['interp', *{command.split()!r}]\n"
        "from analyses.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('HEAVY', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    printed = in_a_fresh_process(code)
    assert len(printed.splitlines()) > 5
    assert printed.rpartition("HEAVY")[2].split() == []


def test_the_rooms_are_lazy() -> None:
    assert {"interp", "interp.models", "interp.patching", "interp.viz"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_every_name_that_it_lists_and_lists_every_name_it_has(room: str) -> None:
    module = importlib.import_module(room)
    assert set(module.__all__) == set(module._exports)
    for name, (source, original) in module._exports.items():
        there = importlib.import_module(source)
        assert getattr(module, name) is getattr(there, original)
        assert name in dir(module)


@pytest.fixture
def made_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A lazy package of its own: one of its modules has the name of what is exported from it."""
    folder = tmp_path / "made_room"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom interp.lazy import attach\nimport json\n"
        "if TYPE_CHECKING:\n    from collections import OrderedDict\n"
        "    from made_room.forward import forward\n"
        "    from made_room.inside import value as other\nattach(__name__)\n"
    )
    (folder / "inside.py").write_text("value = 3\n")
    (folder / "forward.py").write_text("def forward(): return 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("made_room")
    for name in [name for name in sys.modules if name.partition(".")[0] == "made_room"]:
        del sys.modules[name]


def test_attach_reads_renamed_imports_and_leaves_others_alone(made_room: ModuleType) -> None:
    assert "made_room.inside" not in sys.modules
    assert made_room.other == 3
    assert made_room.OrderedDict.__name__ == "OrderedDict"
    assert made_room.json.loads("1") == 1
    assert not hasattr(made_room, "value")
    assert made_room.inside.value == 3  # bound by the import: the room exports no such name


@pytest.mark.parametrize("module_first", [True, False])
def test_a_function_wins_over_the_module_of_its_name_in_either_order_of_import(
    module_first: bool, made_room: ModuleType
) -> None:
    if module_first:
        importlib.import_module("made_room.forward")
    assert made_room.forward() == 4
    module = importlib.import_module("made_room.forward")
    assert isinstance(module, ModuleType)
    assert made_room.forward is module.forward


def test_a_missing_name_is_an_attribute_error_and_an_import_error() -> None:
    with pytest.raises(AttributeError, match=r"'interp\.models' has no attribute 'nothing'"):
        interp.models.nothing  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("interp.models.nothing")


def test_a_name_follows_its_module_and_can_be_replaced_in_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from interp.models import catalogue

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "model_names", lambda: ("mine",))
        assert interp.models.model_names() == ("mine",)
    with monkeypatch.context() as patch:
        patch.setattr(interp.models, "model_names", lambda: ("room's",))
        assert interp.models.model_names() == ("room's",)
        assert catalogue.model_names() != ("room's",)
    assert interp.models.model_names is catalogue.model_names
