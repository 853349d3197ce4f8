"""The page of a run: its report, and every figure beside it."""

from __future__ import annotations

from analyses.report.prose import file_name
from analyses.study import Story
from interp import viz
from interp.models import ModelCard
from interp.runs import Run
from interp.viz.report import encode_page, write_whole


def render_page(story: Story, card: ModelCard) -> str:
    """The report's HTML."""
    return viz.render_report(story.sections, title=story.title, lead=f"Model: {card.one_line}.")


def write_page(folder: Run, story: Story, *, card: ModelCard, png: bool = False) -> None:
    """Write ``report.html``, every figure as HTML, and as PNG where that was asked for."""
    folder.save_text("report.html", render_page(story, card))
    for label, figure in story.figures.items():
        name = file_name(label)
        folder.save_figure(name, figure)
        if png:
            with folder.file(f"figures/{name}.png") as path:
                viz.save(figure, path)
    for label, page in story.pages.items():
        folder.save_text(f"figures/{file_name(label)}.html", page)
    for path, page in story.copies.items():
        write_whole(path, encode_page(page))
