"""A page inside a report: packed in it, and unpacked when the reader opens it.

So a report stays one file. The page is compressed (attention pages to about a third) and runs in a frame
of its own; a report that is never opened there does not pay for it.

Example::

    page = interp.viz.render_report(sections, title="Attention", lead="")
    figures = [(interp.viz.embed_page("All heads of both prompts", page), "")]
    interp.viz.render_report([Section("Attention", figures=figures)], title="t", lead="l")
"""

from __future__ import annotations

import base64
import gzip

from interp.display import escape_html
from interp.viz.report import Fragment, encode_page

_UNPACK = (
    "if(this.open&&!this.dataset.shown){this.dataset.shown=1;"
    "const packed=Uint8Array.from(atob(this.querySelector('script').textContent),c=>c.charCodeAt(0));"
    "new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).text()"
    ".then(page=>{this.querySelector('iframe').srcdoc=page})}"
)


def embed_page(title: str, page: str) -> Fragment:
    """A whole page as a piece of a report, folded under its title until it is opened.

    It is for what a reader explores, and is not printed: figures belong into the report itself.

    Args:
        title: what is clicked to open it.
        page: HTML that holds everything it needs.

    Returns:
        A fragment of about half the page's size. Equal pages give equal fragments.
    """
    packed = base64.b64encode(gzip.compress(encode_page(page), mtime=0)).decode()
    name = escape_html(title)
    return Fragment(
        f'<details class="page" ontoggle="{_UNPACK}"><summary>{name}</summary>'
        f'<iframe title="{name}"></iframe><script type="application/gzip">{packed}</script></details>'
    )
