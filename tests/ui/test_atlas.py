"""The Heads page as an atlas: points by two metrics, the file, similar heads."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from attn.analyse.similar import similar
from attn.heads import HeadId
from attn.index.index import Index
from attn.show import charts
from attn.ui.downloads import as_csv, as_parquet
from attn.ui.examples.ranking import table as of_rows
from attn.ui.heads.atlas import table
from tests.ui.conftest import Start


def test_points_by_two_metrics(start: Start) -> None:
    app = start(view="scatter", x="entropy", y="sink")
    assert app.selectbox(key="x").value == "entropy"
    app.selectbox(key="y").select("distance").run()
    assert app.query_params["view"] == "scatter"
    assert app.query_params["y"] == "distance"
    assert not app.exception


def test_the_map_has_no_second_metric(start: Start) -> None:
    app = start()
    assert app.query_params["view"] == "map"
    assert not [box for box in app.selectbox if box.key in ("x", "y")]


def test_a_metric_that_is_none_is_replaced_and_said(start: Start) -> None:
    app = start(view="scatter", x="speed")
    assert any("has no metric" in w.value and "speed" in w.value for w in app.warning)
    assert app.query_params["x"] != "speed"


def test_similar_heads_select(start: Start, index: Index) -> None:
    app = start(layer=1, head=2)
    wanted = similar(index, HeadId(1, 2))
    shown = [b for b in app.button if (b.key or "").startswith("similar ")]
    assert [b.label for b in shown] == [f"**{s.head}** {s.distance:.2f}" for s in wanted]
    shown[0].click().run()
    assert app.query_params["layer"] == str(wanted[0].head.layer)
    assert app.query_params["head"] == str(wanted[0].head.head)


def test_the_file_has_every_number(index: Index) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(table(index)))))
    assert len(rows) == 8
    for row in rows:
        head = HeadId(int(row["layer"]), int(row["head"]))
        assert int(row["pairs"]) == index.pairs(head)
        for name, value in index.numbers(head).items():
            assert float(row[name] or "nan") == pytest.approx(value, rel=1e-12, nan_ok=True)


def test_files_of_rows_are_what_json_prints(index: Index) -> None:
    ranking = index.top(HeadId(1, 2), 7)
    columns = of_rows(ranking.examples)
    back = pq.read_table(io.BytesIO(as_parquet(columns))).to_pylist()
    for row, example in zip(back, ranking.examples, strict=True):
        assert {k: v for k, v in row.items() if v is not None} == example.record()
    lines = list(csv.reader(io.StringIO(as_csv(columns))))
    assert lines[0] == list(columns)
    assert [line[lines[0].index("token")] for line in lines[1:]] == columns["token"]


def test_what_is_no_number_is_empty() -> None:
    assert as_csv({"a": [1.5, float("nan")], "b": ["x,\ny", '"']}) == ('a,b\n1.5,"x,\ny"\n,""""\n')


def test_a_point_knows_its_head() -> None:
    values = np.arange(6.0).reshape(2, 3)
    y = values.copy()
    y[1, 1] = np.nan
    figure = charts.scatter((values, y, values), ("a", "b", "c"), HeadId(1, 0))
    (points,) = figure.data
    assert points.text.tolist() == ["L0H0", "L0H1", "L0H2", "L1H2", "L1H0"]
    assert points.customdata[4].tolist() == [1, 0, 3]
    assert points.marker.size.tolist() == [10, 10, 10, 10, 16]


def found(app: AppTest) -> list[str]:
    """The heads on the buttons of the best ones."""
    return [b.label.split("**")[1] for b in app.button if (b.key or "").startswith("best ")]


def test_a_filter_of_the_link_leaves_heads_out(start: Start, index: Index) -> None:
    low = float(np.sort(index.metric("previous").reshape(-1))[4])
    app = start(metric="previous", where=f"previous:{low:.6g}:,layer:1:1")
    values = index.metric("previous")
    meant = [h for h in index.heads() if h.layer == 1 and values[h.layer, h.head] >= low - 1e-6]
    wanted = sorted(meant, key=lambda h: -values[h.layer, h.head])
    assert found(app) == [str(head) for head in wanted]
    labels = [p.proto.popover.label for p in app.get("popover")]
    assert f"Filter: {len(wanted)} of 8 heads" in labels


def test_filters_are_made_moved_and_taken_away(start: Start, index: Index) -> None:
    app = start()
    assert len(found(app)) == 8
    app.slider(key="_range layer").set_value((0, 0)).run()
    assert app.query_params["where"] == "layer::0"
    assert found(app)
    assert all(head.startswith("L0") for head in found(app))
    app.multiselect(key="_limited").set_value(["sink"]).run()
    assert app.query_params["where"] == "layer::0,sink::"
    app.slider(key="_range sink").set_value((2.0, 2.0)).run()  # above them all: no head is left
    values = index.metric("sink")
    app.slider(key="_range sink").set_value((float(values.min()), float(values[0].min()))).run()
    assert found(app) == [f"L0H{int(values[0].argmin())}"]
    next(b for b in app.button if b.label == "Show all heads").click().run()
    assert app.query_params["where"] == ""
    assert len(found(app)) == 8
    assert not app.exception


@pytest.mark.parametrize(
    ("where", "sentence"),
    [("speed:1:2,layer:1:", "no metric"), ("nonsense", "which is not ranges")],
)
def test_a_bad_filter_is_told(start: Start, where: str, sentence: str) -> None:
    app = start(where=where)
    assert any(sentence in warning.value for warning in app.warning)
    assert app.query_params["where"] == ("layer:1:" if "layer" in where else "")


@pytest.mark.parametrize("lowest", [0, 1])
def test_the_list_ranks_every_head(start: Start, index: Index, lowest: int) -> None:
    app = start(view="list", metric="distance", lowest=lowest)
    shown = next(frame.value for frame in app.dataframe if "head" in frame.value)
    values = {str(h): float(index.metric("distance")[h.layer, h.head]) for h in index.heads()}
    assert list(shown["head"]) == sorted(values, key=lambda h: values[h] * (1 if lowest else -1))
    assert list(shown["Distance"]) == [values[head] for head in shown["head"]]
