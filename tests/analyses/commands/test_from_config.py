"""Commands made of configurations: an option is declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import typer
import yaml
from pydantic import Field
from typer.testing import CliRunner

from analyses.cli import build_app
from analyses.commands import from_config
from analyses.config import AsList, Out, StudyConfig, read_config
from analyses.registry import STUDIES, load_config_class
from interp.errors import InterpError


class ExampleConfig(StudyConfig):
    """Counts things.

    At length.
    """

    examples: ClassVar[tuple[str, ...]] = ("interp example --names a,b",)

    names: Annotated[tuple[str, ...], AsList, Field(description="Which, comma-separated.")] = (
        "a",
        "b",
    )
    strengths: Annotated[tuple[float, ...], AsList, Field(description="How much.")] = (-2.0, 1.5)
    layers: Annotated[int | None, Field(ge=1, description="How many.")] = None
    folder: Annotated[Path | None, Field(description="Where.")] = None
    way: Annotated[Literal["up", "down"], Field(description="Which way.")] = "up"
    control: Annotated[bool, Field(description="The control as well.")] = True
    out: Out = Path("runs/example")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[StudyConfig]:
    """The configurations that commands were run with, instead of a run."""
    configs: list[StudyConfig] = []

    def stop(config: Any, **options: Any) -> Any:
        configs.append(read_config(config, **options))
        raise typer.Exit

    monkeypatch.setattr(from_config, "read_config", stop)
    monkeypatch.setattr(from_config, "load_config_class", lambda name: ExampleConfig)
    return configs


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.command(epilog=from_config.epilog_of("example"))(from_config.command_of("example"))
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "110", "TERM": "dumb"})


def test_the_defaults_are_the_configurations(seen: list[StudyConfig]) -> None:
    assert invoke().exit_code == 0
    assert seen == [ExampleConfig()]


def test_every_field_is_an_option(seen: list[StudyConfig]) -> None:
    given = invoke(
        "--names", "c, d,c", "--strengths=-1,0.5", "--layers", "3", "--folder", "here", "--way",
        "down", "--no-control", "--model", "m", "--seed", "4", "--png", "--compatibility-mode",
        "--out", "there",
    )  # fmt: skip
    assert given.exit_code == 0, given.output
    assert seen == [
        ExampleConfig(
            names=("c", "d"),
            strengths=(-1.0, 0.5),
            layers=3,
            folder=Path("here"),
            way="down",
            control=False,
            model="m",
            seed=4,
            png=True,
            compatibility_mode=True,
            out=Path("there"),
        )
    ]


def test_help_is_made_of_docstring_descriptions_and_examples(seen: list[StudyConfig]) -> None:
    page = re.sub(r"\x1b\[[0-9;]*m", "", invoke("--help").output)
    for words in ("Counts things.", "At length.", "Which, comma-separated.", "a,b", "-2,1.5",
                  "interp example --names a,b", "Run folder", "runs/example"):  # fmt: skip
        assert words in page
    assert page.index("--model") < page.index("--names") < page.index("--seed")
    assert "--no-png" not in page
    assert "--no-control" in page


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--way", "left"], "--way 'left': should be 'up' or 'down'"),
        (["--layers", "0"], "--layers 0: should be greater than or equal to 1"),
        (["--strengths", "much"], "--strengths 'much': should be a valid number"),
        (["--seed", "-1"], "--seed -1: should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], line: str, seen: list[StudyConfig]
) -> None:
    refused = invoke(*arguments)
    assert isinstance(refused.exception, InterpError)
    assert str(refused.exception).startswith(line.split(":")[0].split(" ")[0])
    assert line.partition(": ")[2] in str(refused.exception)


@pytest.mark.parametrize("name", STUDIES)
def test_every_option_of_every_study_is_described(name: str) -> None:
    config = load_config_class(name)
    assert config.__doc__
    assert config.examples
    for field, info in config.model_fields.items():
        assert info.description, (name, field)
        assert info.description.endswith("."), (name, field)


@pytest.mark.parametrize("name", STUDIES)
def test_every_configuration_goes_through_yaml(name: str) -> None:
    config = load_config_class(name)()
    again = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    assert type(config)(**again) == config


def test_one_name_for_one_thing() -> None:
    """Wordings are `texts`, 6 by default; items are `limit`, sampled by cluster."""
    for name in STUDIES:
        fields = load_config_class(name).model_fields
        assert not {"n_texts", "n_items", "conditions_file"} & set(fields)
        if "texts" in fields and fields["texts"].annotation is int:
            assert fields["texts"].default == 6, name
        for field in fields.values():
            assert "by template" not in (field.description or "")


def test_every_study_is_a_command() -> None:
    runner = CliRunner()
    for name in STUDIES:
        page = runner.invoke(build_app(), [*name.split(), "--help"], env={"COLUMNS": "110"})
        assert page.exit_code == 0, name
        assert "--out" in page.output
