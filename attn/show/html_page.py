"""Makes one self-contained HTML page of text and figures.

The page's policy forbids loading anything. It contains Plotly and draws its figures when it is
opened. Their mode bars save them as PNG and SVG. It follows the reader's choice of light or dark;
pictures saved from it are always dark on white.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from attn.formatting import shown
from attn.show.charts.layout import library

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)

_STYLE = """<style>
:root { color-scheme: light dark; --page: #fff; --ink: #1f2430; --line: #d7dae1; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #12151c; --ink: #e6e8ee; --line: #363c49; }
}
body { background: var(--page); color: var(--ink); margin: 0 auto; max-width: 62rem;
  padding: 1.5rem 1rem 3rem; font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
.figure { min-width: 0; }
.js-plotly-plot :is(.infolayer, .xaxislayer-above, .yaxislayer-above) text {
  fill: var(--ink) !important; }
.size { margin-top: 2.5rem; font-size: .875rem; opacity: .75; }
@media print {
  body { max-width: none; padding: 0; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  .figure { break-inside: avoid; }
  .modebar-container { display: none; }
}
</style>"""

# A printed page is narrower than the screen, and figures have the width that they were drawn in.
_SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent)
for (const [name, { data, layout }] of Object.entries(figures)) {
  const place = document.getElementById(name)
  const save = (format, icon) => ({
    name: format,
    title: `Save as ${format.toUpperCase()}`,
    icon,
    click: plot => Plotly.downloadImage(plot,
      { format, filename: name, scale: 2, setBackground: "opaque" }),
  })
  const buttons = [save("png", Plotly.Icons.camera), save("svg", Plotly.Icons.disk)]
  const zoom = layout.dragmode ? [["zoom2d", "pan2d", "resetScale2d"]] : []
  Plotly.newPlot(place, data, layout, {
    responsive: true, displaylogo: false, displayModeBar: "hover", doubleClick: "reset",
    modeBarButtons: [buttons, ...zoom],
  })
}
const fit = width => {
  document.body.style.width = width
  for (const place of document.querySelectorAll(".figure")) Plotly.Plots.resize(place)
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.more")) part.open = true
  fit("700px")
})
addEventListener("afterprint", () => fit(""))
"""


def place(name: str) -> str:
    """The HTML of a figure's place on the page."""
    return f'<div class="figure" id="{html.escape(name)}"></div>'


def page(title: str, body: str, figures: Mapping[str, Any]) -> str:
    """A whole HTML page. The same input gives the same text.

    ``title`` plain text; ``body`` HTML, all in it escaped already, with a :func:`place` for each of
    ``figures``: name → Plotly figure. The name is also that of the files saved from it.
    """
    drawn = {name: _bare(figure) for name, figure in figures.items()}
    # "<" is escaped, because it could end the script.
    packed = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    script = library()
    size = (len(script.encode()) + len(packed) + len(body.encode())) / 1e6
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(shown(title, ' '))}</title>\n{_STYLE}\n</head>\n<body>\n{body}\n"
        f'<p class="size">This page is one file of {size:.1f} MB that loads nothing else; most of '
        "it is Plotly, which draws the figures and saves them as PNG and SVG.</p>\n"
        f'<script type="application/json" id="figures">{packed}</script>\n'
        f"<script>{script}</script>\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )


def _bare(figure: Any) -> dict[str, Any]:
    """A figure as plain values, on no ground and in no style of its own: the page has both."""
    found: dict[str, Any] = json.loads(figure.to_json())
    del found["layout"]["template"]
    found["layout"]["paper_bgcolor"] = "rgba(0,0,0,0)"
    return found
