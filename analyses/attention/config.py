"""What an attention run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from analyses.config import ContrastConfig, Limit, Out, Rotate, parse_list
from interp.errors import InterpError
from interp.parsing import parse_head

CHOICES = ("difference", "instruction", "knockout")
"""By what the heads of the page are chosen, where none are named."""


PAGES = (".html", ".htm")
"""How the name of a page ends."""


def check_heads(text: str) -> str:
    """A choice, or labels of heads.

    Raises:
        ValueError: anything else.
    """
    if text not in CHOICES:
        try:
            if not named_heads(text):
                raise InterpError("no head is named")
        except InterpError as error:
            raise ValueError(f"{error}; or give one of {', '.join(CHOICES)}") from error
    return text


def named_heads(text: str) -> tuple[tuple[int, int], ...]:
    """(layer, head) of ``L15H5,L24H2``; of a choice none.

    Raises:
        InterpError: what is no label of a head.
    """
    return () if text in CHOICES else tuple(parse_head(label) for label in parse_list(text))


def check_page(path: Path | None) -> Path | None:
    """A page's file.

    Raises:
        ValueError: a name that no browser opens.
    """
    if path is not None and path.suffix.lower() not in PAGES:
        raise ValueError(f"a page's name ends in {' or '.join(PAGES)}, not {path.suffix!r}")
    return path


class AttentionConfig(ContrastConfig):
    """Who looks at the instruction: attention of later positions, beside a placebo in its place."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp attention --items bbq:Age",
        "interp attention --items bbq:Age,bbq:Religion --limit 24 --rotate",
        "interp attention --items bbq:Age --heads L15H5,L24H2 --out page.html",
        "interp attention --condition careful --condition-file my.yaml --texts 2",
    )

    limit: Limit = 8
    rotate: Rotate = False
    heads: Annotated[
        str,
        AfterValidator(check_heads),
        Field(
            description="Heads that are shown token by token: L15H5,L24H2; or those of the largest "
            "difference to the placebo, of the most attention to the instruction, or of the largest "
            "effect of a knockout (difference, instruction, knockout)."
        ),
    ] = "difference"
    page: Annotated[
        Path | None,
        AfterValidator(check_page),
        Field(
            description="Also write the attention page to this file (--out FILE.html does both)."
        ),
    ] = None
    out: Out = Path("runs/attention")

    @model_validator(mode="before")
    @classmethod
    def _page_of_out(cls, values: Any) -> Any:
        """``out`` that names a page: the page is written there, and the run's folder beside it."""
        out = values.get("out") if isinstance(values, dict) else None
        if out is None or Path(out).suffix.lower() not in PAGES:
            return values
        if values.get("page") is not None:
            raise InterpError(
                f"--out {str(out)!r} names a page, and so does --page: give --out a folder"
            )
        return {**values, "page": Path(out), "out": Path(out).with_suffix("")}
