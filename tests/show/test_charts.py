"""Charts: what figures hold, and that no text in them is read as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from attn.heads import HeadId
from attn.show import charts
from attn.show.scales import SCALES, places, shares

TEXTS = ("<s>", " the", "<img src=x>", "\n", "$a$")


def uniform(n: int) -> np.ndarray:
    pattern = np.tril(np.ones((n, n), np.float32))
    return pattern / pattern.sum(1, keepdims=True)


def test_labels_are_visible_short_and_inert() -> None:
    assert charts.label(" the") == "·the"
    assert charts.label("<b>&") == "&lt;b&gt;&amp;"
    assert charts.label("$x$") == "&#36;x&#36;"
    assert charts.label("\n\t\u202e") == "↵⇥\\u202e"
    assert len(charts.label("x" * 99)) == 24


def test_palette_runs_evenly_from_dark_to_light() -> None:
    palette = charts.palette().astype(float)
    assert palette.shape == (256, 3)
    luminance = palette @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[-1] - luminance[0] > 180


def test_shades_are_square_roots() -> None:
    np.testing.assert_array_equal(charts.shades(np.array([0, 0.01, 0.25, 1.0])), [0, 26, 128, 255])
    np.testing.assert_array_equal(charts.shades(np.array([np.nan, -1.0, 2.0])), [0, 0, 255])


def test_grid_has_a_cell_and_a_click_target_a_head() -> None:
    values = np.arange(12, dtype=np.float64).reshape(3, 4) / 20
    values[1, 1] = np.nan
    figure = charts.grid(values, HeadId(2, 3), unit="share", low_high=(0.0, 1.0))
    heat, squares = figure.data
    assert heat.z.dtype == np.float32
    np.testing.assert_allclose(heat.z, np.sqrt(values / values[2, 3]), rtol=1e-6)
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)
    assert len(squares.x) == 12
    assert squares.text[7] == "L1H3"
    np.testing.assert_allclose(squares.customdata[7], [1, 3, values[1, 3]], rtol=1e-6)
    assert squares.marker.opacity == 0
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (2.5, 3.5, 1.5, 2.5)


def test_grid_of_a_metric_without_an_upper_end_is_linear() -> None:
    values = np.array([[2.0, 3.0], [4.0, 5.0]])
    heat = charts.grid(values, HeadId(0, 0), unit="bits", low_high=(0.0, None)).data[0]
    np.testing.assert_array_equal(heat.z, values.astype(np.float32))
    assert (heat.zmin, heat.zmax) == (2.0, 5.0)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 2), np.nan), np.ones((1, 1))])
@pytest.mark.parametrize("high", [None, 1.0])
def test_grid_survives_flat_and_empty_metrics(values: np.ndarray, high: float | None) -> None:
    figure = charts.grid(values, HeadId(0, 0), unit="x", low_high=(0.0, high))
    assert figure.data[0].zmax > figure.data[0].zmin


def test_pattern_shows_attention_and_multiple() -> None:
    figure = charts.pattern(uniform(5), np.arange(1, 6), TEXTS)
    heat = figure.data[0]
    assert heat.z.dtype == heat.customdata.dtype == np.float32
    assert np.isnan(heat.z[0, 1])
    np.testing.assert_allclose(heat.z[4], 0.2, rtol=1e-6)
    np.testing.assert_allclose(heat.customdata[4, :, 0], 1.0, rtol=1e-6)
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)


def test_pattern_labels_are_unique_and_inert() -> None:
    figure = charts.pattern(uniform(5), np.arange(1, 6), TEXTS)
    assert len(set(figure.data[0].x)) == 5
    assert "<" not in "".join([*figure.data[0].x, *figure.data[0].y])


def test_pattern_without_the_first_position_is_rescaled() -> None:
    figure = charts.pattern(uniform(5), np.arange(1, 6), TEXTS, hide_first=True)
    heat = figure.data[0]
    assert np.isnan(heat.z[:, 0]).all()
    assert heat.zmax == pytest.approx(0.5)


def test_bidirectional_pattern_keeps_its_upper_half() -> None:
    whole = np.full((3, 3), 1 / 3, np.float32)
    figure = charts.pattern(whole, np.full(3, 3), TEXTS[:3], bidirectional=True)
    assert not np.isnan(figure.data[0].z).any()


def test_pattern_of_one_token_and_of_many() -> None:
    charts.pattern(np.ones((1, 1)), np.ones(1), ("x",), hide_first=True)
    many = charts.pattern(uniform(300), np.arange(1, 301), ("a",) * 300, mark=(200, 7))
    assert many.layout.xaxis.type == "category"
    assert many.layout.shapes[0].x0 < 7 < many.layout.shapes[0].x1


@pytest.mark.parametrize("high", [0.03, 0.22, 0.98, 1.0])
def test_ticks_of_shares_stand_apart(high: float) -> None:
    values = np.array([[0.0, high]])
    bar = charts.grid(values, HeadId(0, 0), unit="share", low_high=(0.0, 1.0)).data[0].colorbar
    assert bar.tickvals[-1] == 1.0
    assert bar.ticktext[-1] == f"{high:.2g}"
    assert (np.diff(bar.tickvals) > 0.14).all()


def colour_at(scale: Sequence[tuple[float, str]], place: float) -> np.ndarray:
    """What Plotly paints at a place, 0 to 1, of a colour scale."""
    ends = [end for end, _ in scale]
    colours = np.array([[int(n) for n in re.findall(r"\d+", text)] for _, text in scale], float)
    return np.array([np.interp(place, ends, colours[:, i]) for i in range(3)])


@pytest.mark.parametrize("high", [1.0, 0.5, 0.03])
@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_has_the_colour_that_the_legend_says(scale: str, high: float) -> None:
    pattern = np.tril(np.full((4, 4), high / 2, np.float32))
    pattern[3, 1] = high
    figure = charts.pattern(pattern, np.arange(1, 5), TEXTS[:4], hide_first=True, scale=scale)
    heat, legend = figure.data
    bar, palette = legend.marker.colorbar, charts.palette().astype(float)
    assert heat.zmax == pytest.approx(high)
    assert len(bar.tickvals) >= 3
    for place, text in zip(bar.tickvals, bar.ticktext, strict=True):
        share = float(text.removeprefix("≤"))
        painted = colour_at(heat.colorscale, min(share / high, 1.0))
        np.testing.assert_allclose(painted, palette[round(255 * place)], atol=6)
    assert bar.title.text == f"attention, {SCALES[scale].lower()} scale"


@pytest.mark.parametrize("scale", SCALES)
def test_places_and_shares_turn_each_other_round(scale: str) -> None:
    where = np.linspace(0, 1, 11)
    np.testing.assert_allclose(places(shares(where, scale, 0.4), scale, 0.4), where, atol=1e-12)
    assert places(np.array([0.0, 1e-9]), "log").tolist() == [0.0, 0.0]
    assert np.isnan(places(np.array([np.nan]), scale)).all()


@pytest.mark.parametrize("n", [20, 512])
def test_a_heat_map_stays_small_and_square_whatever_is_shown(n: int) -> None:
    figure = charts.pattern(
        uniform(n), np.arange(1, n + 1), tuple(f" word{i}" for i in range(n)), around=(4, 15)
    )
    assert len(figure.to_json()) < (60_000 if n == 20 else 4_000_000)
    across, down = figure.layout.xaxis, figure.layout.yaxis
    assert (across.range, down.range) == ((3.5, 15.5), (15.5, 3.5))
    assert down.scaleanchor == "x"
    assert (across.fixedrange, down.fixedrange) == (False, False)
    assert figure.layout.dragmode == "zoom"
    assert len(figure.data[0].x) == n
    whole = charts.pattern(uniform(n), np.arange(1, n + 1), ("a",) * n)
    assert whole.layout.yaxis.range == (n - 0.5, -0.5)
    assert 380 <= whole.layout.height <= 800


def test_icon_is_svg() -> None:
    assert charts.icon().startswith("<svg ")


def test_grid_of_a_metric_that_can_be_negative_spans_its_range() -> None:
    values = np.array([[-0.5, 0.25], [1.0, np.nan]])
    heat = charts.grid(values, HeadId(0, 0), unit="x", low_high=(-1.0, 1.0)).data[0]
    assert (heat.zmin, heat.zmax) == (-1.0, 1.0)
    np.testing.assert_array_equal(heat.z, values.astype(np.float32))


def test_spectrum_has_a_line_a_circuit() -> None:
    found = {"OV": np.array([3.0, 1.0]), "QK": np.array([2.0, 0.5])}
    lines = charts.spectrum(found).data
    assert [line.name for line in lines] == ["OV", "QK"]
    for line, values in zip(lines, found.values(), strict=True):
        np.testing.assert_array_equal(line.x, [1, 2])
        np.testing.assert_array_equal(line.y, values)
    assert len({(line.line.color, line.line.dash) for line in lines}) == 2


def test_figures_are_saved_under_their_name_and_zoom_where_they_can() -> None:
    still = charts.grid(np.ones((2, 2)), HeadId(0, 0), unit="x", low_high=(0.0, 1.0))
    options = charts.config(still, "all.induction")
    assert options["toImageButtonOptions"]["filename"] == "all.induction"
    assert options["modeBarButtons"] == [["toImage"]]
    zoomed = charts.config(charts.pattern(uniform(5), np.arange(1, 6), TEXTS), "a")
    assert ["zoom2d", "pan2d", "resetScale2d"] in zoomed["modeBarButtons"]


def test_a_figure_alone_is_a_page_that_loads_nothing() -> None:
    from attn.show import html_page

    figure = charts.pattern(uniform(5), np.arange(1, 6), ("</script>", "<b>", "c", "d", "e"))
    page = html_page.page("<b>", html_page.place("a"), {"a": figure})
    assert page == html_page.page("<b>", html_page.place("a"), {"a": figure})
    assert "<title>&lt;b&gt;</title>" in page
    assert page.lower().count("</script") == 3
    assert not re.search(r"<(?:script|link|img)[^>]* (?:src|href)=", page.split("<script>")[0])
