"""Figures as files, and the browser that draws their pictures.

HTML is written here and works offline. PNG, SVG and PDF are drawn by kaleido in a Chrome or Chromium
of the machine; nothing is loaded from a network. :func:`require_browser` looks for both in a few
milliseconds, so that a long computation can ask before it starts.

Example::

    interp.viz.save(interp.viz.heatmap(result), "figures/patching.svg")
    interp.viz.save(interp.viz.coloured_tokens(pair.source, values), "figures/tokens.html")
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast, get_args

from plotly.basedatatypes import BaseFigure

from interp.errors import InterpError, first_line
from interp.viz.report import Fragment, Section, encode_page, render_report, write_whole

Picture = Literal["png", "svg", "pdf"]
"""What a browser has to draw."""

_PICTURES = get_args(Picture)
_WIDTH, _HEIGHT = 1000, 500


def save(
    figure: BaseFigure | Fragment,
    path: str | Path,
    *,
    width: int | None = None,
    scale: float = 2.0,
) -> Path:
    """Write a figure in the format of the path's suffix: ``.png``, ``.svg``, ``.pdf`` or ``.html``.

    The file is written whole or not at all, and its folder is made. HTML is one file that works
    offline (of a plotly figure about 5 MB, its script).

    Example::

        figure = interp.viz.heatmap(result)
        interp.viz.save(figure, "figures/patching.pdf")
        interp.viz.save(figure, "figures/patching.png", width=800, scale=3)

    Args:
        figure: a plotly figure, or a fragment (:func:`coloured_tokens`, :func:`attention_fragment`),
            which is HTML only.
        path: where to write.
        width: width of a picture in CSS pixels; None takes the figure's own, or 1000. The height is
            the figure's.
        scale: pixels of a PNG per CSS pixel.

    Returns:
        The path.

    Raises:
        InterpError: another suffix or object, a fragment as a picture, a width or scale that is not
            positive, no kaleido or browser (:func:`require_browser`), a browser that fails, or a
            path that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in (*_PICTURES, "html"):
        raise InterpError(f"{path}: the suffix {path.suffix!r} is none of .png, .svg, .pdf, .html")
    if isinstance(figure, Fragment):
        if suffix != "html":
            raise InterpError(
                f"{path}: a fragment is HTML and no plotly figure: save it as {path.stem}.html"
            )
        content = encode_page(_page(figure, path.stem))
    elif isinstance(figure, BaseFigure):
        content = (
            figure.to_html(
                div_id="figure", config={"responsive": True, "displaylogo": False}
            ).encode()
            if suffix == "html"
            else draw(figure, cast(Picture, suffix), width=width, scale=scale, path=path)
        )
    else:
        raise InterpError(
            f"{path}: a {type(figure).__name__} cannot be saved: give a plotly figure or a fragment"
        )
    _make_folder(path.parent)
    write_whole(path, content)
    return path


def require_browser() -> Path:
    """The Chrome or Chromium that draws PNG, SVG and PDF. It is looked for, not started.

    Raises:
        InterpError: kaleido is not installed, or no browser is found; says what to install.
    """
    if find_spec("kaleido") is None:
        raise InterpError(
            "PNG, SVG and PDF need the package kaleido (pip install 'kaleido>=1.5'); HTML does not"
        )
    from choreographer.browsers.chromium import Chromium  # kaleido's own search

    found = Chromium.find_browser(skip_local=False)
    if not found or not Path(found).is_file():
        looked = f", and BROWSER_PATH ({found}) is no file" if found else ""
        raise InterpError(
            f"PNG, SVG and PDF need Chrome or Chromium, and none is found{looked}: install one "
            "(Debian: apt install chromium; without root: kaleido_get_chrome), or set BROWSER_PATH "
            "to it; HTML does not need one"
        )
    return Path(found)


def draw(
    figure: BaseFigure,
    picture: Picture,
    *,
    width: int | None = None,
    scale: float = 2.0,
    path: Path | None = None,
) -> bytes:
    """A figure as a picture; the arguments are those of :func:`save`.

    Raises:
        InterpError: a width or scale that is not positive, no browser, or one that fails; names the
            ``path`` that it was for.
    """
    said = f"{path}: " if path else ""
    width = width or figure.layout.width or _WIDTH
    if not width > 0 or not scale > 0:
        raise InterpError(f"{said}width {width} and scale {scale} must both be above 0")
    browser = require_browser()
    import kaleido

    height = figure.layout.height or _HEIGHT
    options = {"format": picture, "width": width, "height": height, "scale": scale}
    try:
        # MathJax off: kaleido would load it from a CDN
        drawn: bytes = kaleido.calc_fig_sync(figure, opts=options, kopts={"mathjax": False})
    # kaleido passes on whatever its browser driver raises
    except Exception as error:
        raise InterpError(
            f"{said}{browser} did not draw it ({type(error).__name__}: {first_line(error)}): set "
            "BROWSER_PATH to another Chrome or Chromium, or write .html"
        ) from error
    return drawn


def _page(fragment: Fragment, title: str) -> str:
    return render_report([Section("", figures=[(fragment, "")])], title=title, lead="")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InterpError(
            f"{str(folder)!r}: cannot be made ({first_line(error)}): choose another path"
        ) from error
