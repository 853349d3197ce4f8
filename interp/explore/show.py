"""How an explorer is shown: with widgets where there are any, else as figures."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from interp.display import escape_html, html_paragraph
from interp.errors import InterpError, first_line
from interp.explore.explorer import Explorer
from interp.explore.views import Drawn

STATIC = ("prompts", "options", "lens", "projection", "map")


def widgets_missing() -> str:
    """Which packages of the widgets are not installed; empty where all are."""
    missing = [name for name in ("ipywidgets", "anywidget") if find_spec(name) is None]
    return " and ".join(missing)


def show(explorer: Explorer, app: Any = None) -> Any:
    """Display an explorer in a notebook; returns its widgets, those of before where there are any.

    None where figures are shown.
    """
    from IPython.display import HTML, display

    missing = widgets_missing()
    if explorer.closed:
        display(HTML(html_paragraph("the explorer is closed: call interp.explore again")))
        return None
    if explorer.widgets and not missing:
        from interp.explore.app import App

        app = App(explorer) if app is None else app
        display(app.widget)
        return app
    why = f"{missing} is not installed" if missing else "widgets=False"
    display(HTML(html_paragraph(f"{explorer.title} (figures without widgets: {why})", bold=True)))
    for part in static_parts(explorer):
        if isinstance(part, str):
            display(HTML(html_paragraph(part)))
            continue
        if part.said:
            display(HTML(html_paragraph(part.said)))
        display(part.figure)
        display(
            HTML(f"<details><summary>code</summary><pre>{escape_html(part.code)}</pre></details>")
        )
    return None


def static_parts(explorer: Explorer) -> list[Drawn | str]:
    """What is shown without widgets: views of the first choice, or every saved result; lines of error.

    The map is that by span, which is quick.
    """
    if not explorer.live:
        return [view.draw() for view in explorer.saved]
    before = explorer.state
    parts: list[Drawn | str] = []
    try:
        explorer.choose(cells="layer_span")
        for name in STATIC:
            if name == "projection" and explorer.direction is None:
                continue
            parts.append(draw_or_say(explorer, name))
    finally:
        explorer.state = before
    return parts


def draw_or_say(explorer: Explorer, name: str, *, progress: bool = False) -> Drawn | str:
    """A view, or the one line that says why it cannot be drawn."""
    try:
        return explorer.draw(name, progress=progress)
    except InterpError as error:
        return str(error)
    except Exception as error:  # a view must not take the notebook with it
        return f"{type(error).__name__}: {first_line(error)}"
