"""What a reader would see: no text on other text or outside the figure, every variant in the legend, colours apart."""

import itertools
from functools import cache

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.load import load_results
from analysis.report_figures import figure_builders
from analysis.style import COLOURS, WIDTHS, looks, styled
from analysis.summary import Settings, summarize
from tests.analysis.synthetic import make_sweep

GAMES = [f"minatar/{game}" for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    variants = {"dqn": {"coupling": "monolithic"}, "scorer": {}, "inverted": {"coupling": "inverted"}}
    overrides = {"tasks": GAMES, "variants": variants, "axes": {"ratio": [0.2, 1, 2, 5, 10]}, "seeds": 3}
    folder = make_sweep(tmp_path_factory.mktemp("outputs"), overrides)
    metrics = ("return", "td_error", "msbe", "be_variance", "leader_grad_norm", "follower_grad_norm")
    return summarize(load_results(folder, metrics), Settings(reps=200, curve_reps=50))


def boxes_of_texts(figure):
    """(text, box) of everything written, as drawn."""
    ConstrainedLayoutEngine().execute(figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [*figure.texts, *(ax.title for ax in figure.axes)] + [text for ax in figure.axes for text in ax.texts]
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            texts += [axis.label]
            low, high = sorted(axis.get_view_interval())
            margin = 1e-9 * (high - low)
            for tick in axis.get_major_ticks():
                if low - margin <= tick.get_loc() <= high + margin and tick.label1.get_visible():
                    texts.append(tick.label1)
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text() and t.get_visible()]


@pytest.fixture(scope="module")
def drawn(summary):
    """(name, venue) -> the figure and its texts; each is drawn once."""

    @cache
    def draw(name, venue):
        with styled():
            figure = figure_builders(summary)[name](summary, venue).figure
            return figure, boxes_of_texts(figure)

    return draw


SLOW = pytest.mark.slow
SEEN = [
    ("intervals", "iclr"),
    ("improvement", "icml"),
    ("ratio", "icml"),
    ("curves", "iclr"),
    ("profiles", "icml"),
    ("losses", "iclr"),
    *(pytest.param(name, "icml", marks=SLOW) for name in ("intervals", "curves", "losses")),
    *(pytest.param(name, "iclr", marks=SLOW) for name in ("improvement", "ratio", "profiles")),
]


@pytest.mark.parametrize(("name", "venue"), SEEN)
def test_no_text_overlaps_and_none_is_cut_off(drawn, name, venue):
    figure, boxes = drawn(name, venue)
    assert len(boxes) > 5
    for (text, box), (other, there) in itertools.combinations(boxes, 2):
        wide = min(box.x1, there.x1) - max(box.x0, there.x0)
        high = min(box.y1, there.y1) - max(box.y0, there.y0)
        assert min(wide, high) < 1, f"{text!r} lies on {other!r}"
    edge = figure.bbox
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= edge.x1 + 1, text
        assert box.y1 <= edge.y1 + 1, text
    assert figure.get_figwidth() <= WIDTHS[venue][0]


def test_every_figure_of_the_sweep_was_looked_at(summary):
    assert set(figure_builders(summary)) == {"intervals", "improvement", "ratio", "curves", "profiles", "losses"}


@pytest.mark.parametrize(("name", "venue"), [("curves", "iclr"), ("profiles", "icml"), ("losses", "iclr")])
def test_every_variant_is_in_the_legend_read_across_and_drawn_as_it_says(summary, drawn, name, venue):
    figure, _ = drawn(name, venue)
    (legend,) = figure.legends
    figure.canvas.draw()
    places = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    assert sorted(places, key=lambda text: (-round(places[text].y0), places[text].x0)) == summary.results.variants
    promised = {(line.get_color(), str(line.get_linestyle())) for line in legend.get_lines()}
    shown = {(line.get_color(), str(line.get_linestyle())) for line in figure.axes[0].get_lines()}
    assert promised <= shown


def test_more_variants_than_colours_can_still_be_distinguished():
    found = looks([f"v{i}" for i in range(40)], [])
    assert len({(look.colour, str(look.dashes)) for look in found.values()}) == 40


def test_a_variant_looks_the_same_whatever_stands_beside_it():
    assert looks(["dqn", "a", "b"], ["dqn"])["a"] == looks(["dqn", "a"], ["dqn"])["a"]


# Machado et al. 2009, severity 1.
COLOUR_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_the_first_six_colours_differ_for_colour_blind_eyes(kind):
    seen = np.clip(np.array([to_rgb(colour) for colour in COLOURS[:6]]) @ np.array(COLOUR_BLIND[kind]).T, 0, 1)
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 0.12
