"""Walks of optimizers and their pictures: the numbers are the lecture's, and those on the pictures are those."""

from __future__ import annotations

import io
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.inspect import (
    OPTIMIZER_FAMILY,
    PlotUnavailableError,
    descend,
    loss_grid,
    optimizer_race,
    optimizer_trace,
    parabola,
    plot_learning_rates,
    plot_loss_surface,
    plot_optimizer_family,
    plot_optimizer_race,
    valley,
)


def named(figure: Any, start: str) -> dict[str, Any]:
    found = {str(artist.get_gid() or ""): artist for artist in figure.findobj()}
    return {name.removeprefix(start): artist for name, artist in found.items() if name.startswith(start)}


# Numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "size"), [(0.1, 0.1216), (1.9, 0.1216), (2.1, 6.73), (1.0, 0.0)])
def test_learning_rates_of_the_lecture(rate: float, size: float) -> None:
    """Row B49: w^2/2 from 1, 20 steps: |1 - lr|^20; it comes down only for lr < 2."""
    walk = descend(parabola, (1.0,), rate, 20)
    assert abs(walk.points[-1, 0]) == pytest.approx(size, rel=5e-4)
    assert walk.points[:, 0] == pytest.approx((1 - rate) ** np.arange(21), rel=1e-9, abs=1e-15)
    assert walk.losses == pytest.approx(walk.points[:, 0] ** 2 / 2, rel=1e-12)
    assert (walk.losses[-1] < walk.losses[0]) == (rate < 2)


def test_the_gradient_is_normal_to_the_level_set() -> None:
    """Row B49, corrected: along the line of equal loss through a point the gradient has no part."""
    walk = descend(valley, (-4.0, 1.0), 1e-3, 1)
    step = walk.points[1] - walk.points[0]
    x, y = walk.points[0]
    # x^2/2 + 5 y^2 = c is (sqrt(2c) cos t, sqrt(c/5) sin t): its tangent, and the tangent plane's two directions.
    angle = np.arctan2(np.sqrt(10) * y, x)
    tangent = np.array([-np.sqrt(2 * 13) * np.sin(angle), np.sqrt(13 / 5) * np.cos(angle)])
    assert abs(step @ tangent) < 1e-12 * np.linalg.norm(step) * np.linalg.norm(tangent) + 1e-15
    assert step == pytest.approx(-1e-3 * np.array([x, 10 * y]), rel=1e-9)


@pytest.mark.parametrize(("rate", "falls"), [(0.02, True), (0.15, True), (0.205, False)])
def test_the_loss_never_rises_with_a_small_learning_rate(rate: float, falls: bool) -> None:
    """Row B45: the curvature is 10 across the valley, so that the bound is 2 / 10."""
    walk = descend(valley, (-4.0, 1.0), rate, 60)
    assert np.all(np.diff(walk.losses) <= 0) == falls
    if not falls:
        # Down along the valley and up across it.
        assert abs(walk.points[-1, 0]) < 1e-2
        assert abs(walk.points[-1, 1]) > 10


# Row B53: w after the gradients 1, 1, -0.5, from 0.
TRACES = {
    "GD": [-0.1, -0.2, -0.15],
    "SGD": [-0.1, -0.2, -0.15],
    "Momentum": [-0.1, -0.29, -0.411],
    "NAG": [-0.19, -0.461, -0.5199],
    "Adagrad": [-0.1, -0.1707106781, -0.1373773448],
    "RMSProp": [-0.9999999, -1.7088810548, -1.3733106075],
    "AdaDelta": [-0.0031622618, -0.0064066736, -0.0044660378],
    "Adam": [-0.099999999, -0.199999998, -0.251565338],
    "AdaMax": [-0.099999999, -0.199999998, -0.2446941382],
    "NAdam": [-0.1056451781, -0.1840136132, -0.1556423891],
    "AdamW": [-0.099999999, -0.199899998, -0.251265438],
}


@pytest.mark.parametrize("name", OPTIMIZER_FAMILY)
def test_traces_of_the_family(name: str) -> None:
    """Row B53: the whole genealogy."""
    assert optimizer_trace(name) == pytest.approx(np.array(TRACES[name]), abs=5e-9)


def test_family() -> None:
    """Row B53: nine of the notes, and two more; parents are older and stand before their children."""
    notes = {"GD", "SGD", "Momentum", "NAG", "Adagrad", "AdaDelta", "RMSProp", "Adam", "NAdam"}
    assert notes | {"AdaMax", "AdamW"} == OPTIMIZER_FAMILY.keys()
    names = list(OPTIMIZER_FAMILY)
    for name, relative in OPTIMIZER_FAMILY.items():
        assert (name == "GD") == (not relative.parents)
        for parent in relative.parents:
            assert names.index(parent) < names.index(name)
            assert OPTIMIZER_FAMILY[parent].year < relative.year or name == "AdaMax"
    assert OPTIMIZER_FAMILY["Adam"].parents == ("Momentum", "RMSProp")
    assert OPTIMIZER_FAMILY["NAdam"].parents == ("NAG", "Adam")


def test_race() -> None:
    """Row B53: what each is known for shows in the race."""
    race = optimizer_race()
    assert race.keys() == OPTIMIZER_FAMILY.keys() - {"SGD"}
    for walk in race.values():
        assert walk.points.shape == (101, 2)
        assert walk.points[0].tolist() == [-4.0, 1.0]
        assert walk.losses[0] == 13.0
        assert walk.losses[-1] < 0.7 * walk.losses[0]
    end = {name: walk.losses[-1] for name, walk in race.items()}
    assert max(end, key=end.__getitem__) == "AdaDelta"  # it begins with steps of 1e-3
    assert max(loss for name, loss in end.items() if name != "AdaDelta") < 1e-2
    # Momentum runs past the bottom, gradient descent comes from one side.
    assert race["Momentum"].points[:, 0].max() > 1.0 > 1e-9 > race["GD"].points[:, 0].max()
    assert race["NAG"].points[:, 0].max() < race["Momentum"].points[:, 0].max()
    own = optimizer_race({"mine": lambda weights: gn.optim.SGD(weights, lr=0.1), "rate": 0.1}, steps=5)
    assert np.array_equal(own["mine"].points, race["GD"].points[:6])
    assert np.array_equal(own["rate"].points, race["GD"].points[:6])


def test_walks_end_where_numbers_do() -> None:
    walk = descend(lambda w: (w[0] ** 2).exp(), (1.5,), 1.0, 50)
    assert 2 <= len(walk.losses) == len(walk.points) < 51
    assert not np.isfinite(walk.losses[-1])


def test_grid() -> None:
    x, y, values = loss_grid(valley, (-4.0, 4.0), (0.0, 1.0), 5)
    assert x.tolist() == [-4.0, -2.0, 0.0, 2.0, 4.0]
    assert values == pytest.approx(x**2 / 2 + 5 * y[:, None] ** 2)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: descend(valley, 1.0, 0.1), gn.ShapeError, r"start: must be a vector of weights, got shape \(\)"),
        (lambda: descend(lambda w: w, (1.0, 2.0), 0.1), gn.ShapeError, "loss: must return one number"),
        (lambda: descend(valley, (1.0, 1.0), 0.1, 0), ValueError, "steps: must be a whole number of at least 1"),
        (lambda: descend(valley, (1.0, 1.0), "Sgd"), ValueError, "optimizer: must be one of GD, SGD, .* got 'Sgd'"),
        (lambda: descend(valley, (1.0, 1.0), None), TypeError, "optimizer: must be a name, a learning rate or a func"),
        (lambda: descend(1.0, (1.0, 1.0), 0.1), TypeError, "loss: must be a function, got float"),
        (lambda: descend(valley, (1.0,), 0.1), gn.ShapeError, r"valley: point must be two weights, got shape \(1,\)"),
        (lambda: descend(valley, (1.0, np.nan), 0.1), ValueError, "start: must be finite"),
        (lambda: descend(valley, "ab", 0.1), TypeError, "start: must be numbers, got str"),
        (lambda: descend(lambda w: 1.0, (1.0,), 0.1), TypeError, "loss: must return a Tensor of one number, got float"),
        (lambda: descend(lambda w: gn.ones(1), (1.0,), 0.1), ValueError, "loss: must be computed from the weights"),
        (lambda: optimizer_trace("GD", (1.0, np.inf)), ValueError, "gradients: must be finite"),
        (lambda: loss_grid(valley, (1.0, 1.0), (0.0, 1.0)), ValueError, r"xlim: must be \(least, largest\)"),
        (lambda: loss_grid(valley, (0.0, 1.0), (0.0, 1.0), 1), ValueError, "resolution: must be a whole number"),
    ],
)
def test_bad_walks(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


# Pictures ----------------------------------------------------------------------------------------------------------


def test_the_surface_has_the_walks() -> None:
    """Row B45."""
    pytest.importorskip("matplotlib")
    walks = {"small": descend(valley, (-4.0, 1.0), 0.02, 40), "large": descend(valley, (-4.0, 1.0), 0.19, 40)}
    figure = plot_loss_surface(walks, title="a valley")
    surface, curve = figure.axes
    for name, walk in walks.items():
        assert np.array_equal(np.transpose(named(figure, "path ")[name].get_data()), walk.points)
        assert np.array_equal(named(figure, "loss ")[name].get_ydata(), walk.losses)
    assert surface.collections, "lines of equal loss"
    (left, right), (bottom, top) = surface.get_xlim(), surface.get_ylim()
    assert left < -4.0 < 0.0 < right
    assert bottom < -0.7 < 1.0 < top
    assert curve.get_yscale() == "log"
    # The least loss is marked, and in the middle: the whole bowl is seen.
    assert named(figure, "")["least"].get_xydata() == pytest.approx(np.zeros((1, 2)), abs=1e-2)
    assert (left + right, bottom + top) == pytest.approx((0.0, 0.0), abs=0.05)
    shown = [float(text.get_text()) for text in surface.texts]
    assert len(shown) > 5, "values of the lines"
    assert any(getattr(one, "filled", False) for one in surface.collections), "shades"
    limited = plot_loss_surface(walks, xlim=(-1, 1), ylim=(-2, 2), resolution=5)
    assert limited.axes[0].get_xlim() == (-1, 1)
    with pytest.raises(ValueError, match="walks: must be one or more over two weights each"):
        plot_loss_surface({})
    with pytest.raises(ValueError, match="walks: must be one or more over two weights each"):
        plot_loss_surface({"one weight": descend(parabola, (1.0,), 0.1)})


def test_steps_are_drawn_at_right_angles_to_lines_of_equal_loss() -> None:
    """Row B49: on the picture, in its pixels, a small step of gradient descent crosses the level line at 90 degrees."""
    pytest.importorskip("matplotlib")
    walk = descend(valley, (-4.0, 1.0), 0.01, 60)
    for figure in (plot_loss_surface({"small": walk}), plot_optimizer_race({"small": walk})):
        figure.draw_without_rendering()
        surface = figure.axes[0]
        for n in (0, 5, 20):
            x, y = walk.points[n]
            tangent = np.array([-10 * y, x]) * 1e-3  # across the gradient (x, 10 y)
            place, ahead, aside = surface.transData.transform(
                [walk.points[n], walk.points[n + 1], walk.points[n] + tangent]
            )
            step, line = ahead - place, aside - place
            assert abs(step @ line) < 1e-6 * np.linalg.norm(step) * np.linalg.norm(line)


def test_a_slope_without_a_least_loss_has_no_star() -> None:
    pytest.importorskip("matplotlib")

    def slope(w: gn.Tensor) -> gn.Tensor:
        return 2 * w[0] - w[1]

    figure = plot_loss_surface({"down": descend(slope, (1.0, 1.0), 0.1, 10)}, slope)
    assert "least" not in named(figure, "")
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert left < -1.0 < 1.0 < right
    assert bottom < 1.0 < 2.0 < top


def test_ten_walks_are_told_apart() -> None:
    colors = pytest.importorskip("matplotlib.colors")
    lines = named(plot_optimizer_race(), "path ")
    assert len(lines) == 10
    colours = [np.array(colors.to_rgb(line.get_color())) for line in lines.values()]
    for number, colour in enumerate(colours):
        assert all(np.abs(colour - other).max() > 0.2 for other in colours[:number])
    styles = [line.get_linestyle() for line in lines.values()]
    assert all(one != next_one for one, next_one in pairwise(styles))
    walk = descend(valley, (-4.0, 1.0), 0.02, 2)
    with pytest.raises(ValueError, match=r"walks: 11 are more than can be told apart \(10\)"):
        plot_loss_surface({str(number): walk for number in range(11)})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: plot_loss_surface("a"), TypeError, "walks: must be a dict of what descend gives, by name, got str"),
        (lambda: plot_loss_surface({"a": 1}), TypeError, "walks: must be a dict of what descend gives"),
        (
            lambda: plot_loss_surface({"a": descend(valley, (1.0, 1.0), 0.1)}, lambda w: 1.0),
            TypeError,
            "loss: must return a Tensor of one number, got float",
        ),
        (lambda: plot_learning_rates(0.1), gn.ShapeError, r"rates: must be a vector, got shape \(\)"),
        (lambda: plot_learning_rates(()), ValueError, "rates: there are none"),
        (lambda: plot_learning_rates("a"), TypeError, "rates: must be numbers, got str"),
        (lambda: plot_learning_rates((np.nan,)), ValueError, "rates: must be finite"),
        (lambda: plot_learning_rates([0.1] * 50), ValueError, "rates: more than 8 are too many"),
    ],
)
def test_bad_pictures(call: Any, error: type[Exception], text: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(error, match=text):
        call()


def test_the_race_is_drawn_whole() -> None:
    """Row B53."""
    pytest.importorskip("matplotlib")
    figure = plot_optimizer_race()
    assert named(figure, "path ").keys() == OPTIMIZER_FAMILY.keys() - {"SGD"}
    assert np.array_equal(named(figure, "loss ")["Adam"].get_ydata(), optimizer_race(["Adam"])["Adam"].losses)


def test_the_tree_has_every_optimizer_and_its_parents() -> None:
    """Rows B53 and B92: S3's tree of the optimizers."""
    pytest.importorskip("matplotlib")
    figure = plot_optimizer_family()
    boxes, texts = named(figure, "box "), [text.get_text() for text in figure.axes[0].texts]
    assert boxes.keys() == OPTIMIZER_FAMILY.keys()
    for name, relative in OPTIMIZER_FAMILY.items():
        assert f"{name} ({relative.year})" in texts
        assert relative.adds in [" ".join(text.split()) for text in texts]
        for parent in relative.parents:
            assert f"{parent} to {name}" in named(figure, "")
            assert boxes[parent].get_y() < boxes[name].get_y()
    corners = [(box.get_x(), box.get_y()) for box in boxes.values()]
    for number, (x, y) in enumerate(corners):  # no box over another
        assert all(abs(x - a) > 2.6 or abs(y - b) > 0.62 for a, b in corners[:number])


def test_learning_rates_are_drawn() -> None:
    """Rows B49 and B92: S3's picture of learning rates."""
    pytest.importorskip("matplotlib")
    figure = plot_learning_rates()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "lr 0.1: w = 0.1216 after 20 steps"
    assert titles[2:4] == ["lr 1.9: w = 0.1216 after 20 steps", "lr 2.1: w = 6.727 after 20 steps"]
    line = named(figure, "path ")["1.9"]
    assert np.all(line.get_xdata()[:-1] * line.get_xdata()[1:] < 0), "from side to side"
    assert line.get_ydata() == pytest.approx(line.get_xdata() ** 2 / 2)
    # What comes down and what goes up look different: one scale, and |w| over the steps.
    *above, below = figure.axes
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in above}) == 1
    assert below.get_yscale() == "log"
    assert above[0].get_ylabel()
    assert below.get_ylabel()
    for rate, falls in (("0.1", True), ("1.9", True), ("2.1", False)):
        size = named(figure, "size ")[rate].get_ydata()
        assert size == pytest.approx(np.abs(1 - float(rate)) ** np.arange(21), rel=1e-9)
        assert np.all(np.diff(size) < 0) == falls
        assert named(figure, "start ")[rate].get_xydata().tolist() == [[1.0, 0.5]]
        first = named(figure, "step ")[f"{rate} 1"]
        assert (first.xyann, first.xy) == ((1.0, 0.5), pytest.approx((1 - float(rate), (1 - float(rate)) ** 2 / 2)))


def test_numbers_that_overflow_are_no_warnings() -> None:
    pytest.importorskip("matplotlib")
    figure = plot_learning_rates((1e9,))
    assert named(figure, "size ")["1e+09"].get_ydata()[1] == pytest.approx(1e9)
    figure.savefig(io.BytesIO(), format="png")
    walks = {"away": descend(valley, (-4.0, 1.0), 1e9, 60), "down": descend(valley, (-4.0, 1.0), 0.1, 60)}
    assert not np.isfinite(walks["away"].losses[-1])
    figure = plot_loss_surface(walks)
    assert np.ptp(figure.axes[0].get_xlim()) < 1000
    figure.savefig(io.BytesIO(), format="png")
    loss_grid(lambda w: (w * w).sum().exp(), (0.0, 1e3), (0.0, 1.0), 3)


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a", "b"):
        plot_optimizer_family(tmp_path / f"{name}1.svg")
        plot_learning_rates((0.5,), tmp_path / f"{name}2.png")
        plot_optimizer_race(optimizer_race(["GD"], steps=3), path=tmp_path / f"{name}3.svg")
    for file in ("1.svg", "2.png", "3.svg"):
        assert (tmp_path / f"a{file}").read_bytes() == (tmp_path / f"b{file}").read_bytes()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    walks = {"one": descend(valley, (-4.0, 1.0), 0.02, 2)}
    for plot in (plot_optimizer_race, plot_optimizer_family, plot_learning_rates, lambda: plot_loss_surface(walks)):
        with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
            plot()
