"""Figures: they show the numbers of the records, keep text apart, repeat their bytes, and work for a single run."""

import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from mtlkit import paths, plots, studies, style, view
from mtlkit.errors import MtlkitError
from mtlkit.records import read
from mtlkit.selection import metrics_of
from tests import factory

TWO = {name: factory.CONDITIONS[name] for name in ("uniform_0.3", "background_0.6")}
NOISE = {f"u{level}": {"label": f"uniform {level}", "noise_kind": "uniform", "noise": level} for level in (0.2, 0.4)}
GRID = {"none": {"label": "no noise", "noise": 0.0}} | NOISE
FIGURES = {
    "metric_against_noise": plots.metric_against_noise,
    "more_metrics": lambda records, study: plots.metric_against_noise(
        records, study, metrics_of(records)[2:] or ["loss"]
    ),
    "learning_curves": plots.learning_curves,
    "flipped_mass": plots.flipped_mass,
    "weight_histogram": plots.weight_histogram,
    "task_weights": plots.task_weights,
}
COMMITTED = ("aligned_selection", "cifar_methods", "toy_classification", "multi_mnist")


def draw(name: str, records: list[dict], study=None):
    return FIGURES[name](records, study=study)


@pytest.fixture(scope="module")
def full():
    study = factory.study()
    return study, factory.records(study)


@pytest.fixture
def small():
    study = factory.study(["ew", "slgrad", "oracle_ref"], TWO, seeds=3)
    return study, factory.records(study)


def texts(figure) -> list[tuple[str, object]]:
    """Everything that is written in a figure, with the box that it takes, in pixels."""
    found = []
    for axes in figure.axes:
        ticks = [
            tick.label1
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            if axis.get_view_interval().min() <= tick.get_loc() <= axis.get_view_interval().max()
        ]
        found += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *ticks]
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    found += [text for text in (figure._supxlabel, figure._supylabel) if text]
    shown = [text for text in found if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in shown]


def assert_texts_apart(figure) -> None:
    """No text covers other text or leaves the page, and no arrow stands alone in a line."""
    with style.style():
        figure.draw_without_rendering()
        found, page = texts(figure), figure.bbox
    assert found
    for text, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text!r} leaves the page"
        assert not re.search(r"\n[↑↓]", text), f"{text!r} leaves its arrow alone"
    for (one, a), (other, b) in combinations(found, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1 or height <= 1, f"{one!r} covers {other!r}"


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("size", ["full", "one condition", "single", *COMMITTED])
def test_no_text_covers_other_text_or_leaves_the_page(name, size, full):
    """Nor in studies of ours, with their longer names."""
    study, records = {
        "full": full,
        "one condition": (full[0], [one for one in full[1] if one["condition"] == "uniform_0.3"]),
        "single": (None, [factory.record("slgrad", study=None)]),
    }.get(size) or (studies.load(size), read(paths.COMMITTED_RECORDS / size))
    assert_texts_apart(draw(name, records, study))


@pytest.mark.parametrize("highest", [0.97, 0.85, 0.6])
def test_numbers_below_narrow_panels_stay_apart(highest):
    eight = {f"c{place}": {"label": "background flips 0.6, all tasks", "noise": 0.6} for place in range(8)}
    study = factory.study(["ew", "slgrad", "oracle_ref"], eight, seeds=3)
    records = factory.records(study)
    for one in records:  # a loss of 0.3 in one arm, of up to 1 in another; accuracies of 0.1 and 0.9
        test = one["evaluations"][-1]["test"]
        test["loss"] = {"ew": highest, "slgrad": 0.33, "oracle_ref": 0.28}[one["arm"]] + one["seed"] / 50
        test["accuracy"] = {"ew": 0.07, "slgrad": 0.87, "oracle_ref": 0.9}[one["arm"]] + one["seed"] / 100
    assert_texts_apart(plots.metric_against_noise(records, study, ["loss", "auc", "accuracy"]))


def test_files_repeat_themselves(small, tmp_path):
    study, records = small
    for folder in ("a", "b"):
        paths = plots.save(plots.learning_curves(records, "loss", study), tmp_path / folder, "curves")
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert b"CreationDate" not in paths[1].read_bytes()


def test_minus_and_arrows_are_in_the_font_of_the_letters():
    figure, grid = style.panels(1, 1, 3, 2)
    grid[0, 0].set_title("loss −1 ↓")
    assert figure.encode("pdf").count(b"/FontFile2") == 1


def test_epochs_are_whole(small):
    study, records = small
    for figure in (plots.task_weights(records, study), plots.learning_curves(records, "loss", study)):
        for axes in figure.axes:
            axes.set_xlim(1, 2)
            assert all(tick == round(tick) for tick in axes.get_xticks())


def test_figures_show_themselves_in_notebooks_and_ignore_the_users_style(small):
    import matplotlib

    study, records = small
    usual = plots.learning_curves(records, "loss", study)._repr_png_()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plots.learning_curves(records, "loss", study)._repr_png_() == usual
    assert usual.startswith(b"\x89PNG")


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, mtlkit.plots, mtlkit.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_save_into_a_file(tmp_path, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(MtlkitError, match="cannot write the figure"):
        plots.save(plots.task_weights(small[1], small[0]), tmp_path / "file", "x")


def test_variants_do_not_share_a_figure(small):
    small[1][0]["data"] |= {"variant": "digits"}
    with pytest.raises(MtlkitError, match="digits"):
        plots.learning_curves(small[1], "loss", small[0])


def test_dots_stand_at_the_means(small):
    study, records = small
    figure = plots.metric_against_noise(records, study, ["auc"])
    assert [axes.get_title("left") for axes in figure.axes] == ["uniform 0.3", "background 0.6"]
    values = [
        one["evaluations"][-1]["test"]["auc"]
        for one in records
        if one["arm"] == "slgrad" and one["condition"] == "background_0.6"
    ]
    mean, half = np.mean(values), 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert factory.means(figure.axes[1])[1] == pytest.approx(mean)
    (bars,) = figure.axes[1].collections
    assert bars.get_segments()[1] == pytest.approx(np.array([[mean - half, 1], [mean + half, 1]]), rel=1e-6)
    assert len(set(map(tuple, bars.get_colors()))) == 3
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "EW",
        "SLGrad, as meant",
        "oracle + ref",
    ]


def test_a_grid_of_noise_is_drawn_as_lines():
    study = factory.study(["ew", "slgrad"], GRID, seeds=3)
    records = [factory.record(arm, name, seed) for name in GRID for arm in study.arms for seed in range(3)]
    (axes,) = plots.metric_against_noise(records, study, ["loss"]).axes
    assert axes.get_xlabel() == "noise" and list(axes.get_xticks()) == [0, 0.2, 0.4]
    assert len(axes.containers) == 2 and all(len(bar.lines[0].get_xdata()) == 3 for bar in axes.containers)
    for record in records:
        record["data"] = record["data"] | {"constant": {"loss": 0.1 * record["seed"]}}
    (axes,) = plots.metric_against_noise(records, study, ["loss"]).axes
    (line,) = [line for line in axes.lines if line.get_label() == "constant (reference mean)"]
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("conditions", "grid"),
    [
        (GRID, True),
        ({name: GRID[name] for name in ("none", "u0.2")}, False),  # two levels are no grid
        (GRID | {"human": {"label": "human", "noise_kind": "human", "noise": 0.5}}, False),
        (GRID | {"again": {"label": "again", "noise_kind": "uniform", "noise": 0.2}}, False),
    ],
)
def test_what_counts_as_a_grid_of_noise(conditions, grid):
    study = factory.study(["ew"], conditions, seeds=1)
    records = [factory.record("ew", name) for name in conditions]
    assert (view.View(records, study).noise() is not None) == grid


def test_learning_curves_are_means_with_bands(small):
    study, records = small
    figure = plots.learning_curves(records, "loss", study)
    axes = figure.axes[0]
    mine = [one for one in records if one["arm"] == "ew" and one["condition"] == "uniform_0.3"]
    curves = [[e["test"]["loss"] for e in one["evaluations"]] for one in mine]
    line = axes.get_lines()[0]
    assert line.get_label() == "EW" and line.get_xdata() == pytest.approx(range(5, 41, 5))
    assert line.get_ydata() == pytest.approx(np.mean(curves, 0))
    assert len(axes.collections) == 3


def test_a_run_that_diverged_does_not_flatten_the_others(small):
    study, records = small
    (chosen,) = [one for one in records if (one["condition"], one["arm"], one["seed"]) == ("uniform_0.3", "slgrad", 1)]
    for one in chosen["evaluations"]:
        one["test"]["loss"] = 4e5
    left, right = plots.metric_against_noise(records, study, ["loss"]).axes[:2]
    (said,) = [text.get_text() for text in left.texts]
    assert said == "1e+05 →" and left.get_xlim()[1] < 2 and not right.texts
    left, right = plots.learning_curves(records, "loss", study).axes[:2]
    assert 0.1 < left.get_ylim()[0] < left.get_ylim()[1] < 20 and right.get_ylim()[1] < 2


def test_flipped_mass_has_its_dashed_line_and_names_what_it_leaves_out(small):
    study, records = small
    study.conditions["none"] = factory.CONDITIONS["none"]
    records += [factory.record("ew", "none", seed) for seed in range(3)]
    figure = plots.flipped_mass(records, study)
    assert [axes.get_title("left") for axes in figure.axes] == ["uniform 0.3", "background 0.6"]
    for axes, fraction in zip(figure.axes, (0.3, 0.6), strict=True):
        assert [line.get_label() for line in axes.get_lines()][:2] == ["SLGrad, as meant", "oracle + ref"]
        assert list(axes.get_lines()[-1].get_ydata()) == pytest.approx([fraction] * 2)
    assert figure.legends[0].get_title().get_text().replace("\n", " ").endswith("samples): EW")
    with pytest.raises(MtlkitError, match="no record has flipped samples"):
        plots.flipped_mass([factory.record("ew", "none")])


def test_weight_histogram_shows_shares_and_keeps_zero_apart(small):
    study, records = small
    figure = plots.weight_histogram(records, study)
    axes = figure.axes[0]  # SLGrad, uniform
    labels = [label.get_text() for label in figure.axes[2].get_xticklabels()]
    assert labels == ["0", "0.1", "1", "10"]
    mine = [
        one["weights"]["histogram"] for one in records if (one["arm"], one["condition"]) == ("slgrad", "uniform_0.3")
    ]
    for kind, (zero, others) in zip(("clean", "flipped"), (axes.patches[:2], axes.patches[2:]), strict=True):
        counts = np.sum([one[kind][0] for one in mine], 0)
        assert zero.get_data().values[0] == pytest.approx(counts[0] / counts.sum())
        assert others.get_data().values == pytest.approx(counts[1:] / counts.sum())
        assert zero.get_data().edges[1] < others.get_data().edges[0]
    assert "EW" in figure.legends[0].get_title().get_text()


def test_weight_axis_puts_numbers_where_their_bins_are():
    record = factory.record("slgrad")
    (axes,) = plots.weight_histogram([record]).axes
    edges = record["weights"]["histogram"]["edges"]
    ticks = dict(zip([label.get_text() for label in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert ticks["1"] == edges.index(1.0)
    assert edges.index(8.0) < ticks["10"] < edges.index(16.0)


def test_task_weights_are_shares(small):
    study, records = small
    for one in records:
        one["weights"]["task"] = (7 * np.asarray(one["weights"]["task"])).tolist()
    figure = plots.task_weights(records, study)
    assert len(figure.axes) == 2  # SLGrad in two conditions: the others never move
    lines = figure.axes[0].get_lines()
    assert sum(line.get_ydata()[20] for line in lines[:10]) == pytest.approx(1)
    low, high = figure.axes[0].get_ylim()
    assert low == 0 and high > lines[0].get_ydata().max()


def test_epochs_without_any_weight_leave_a_gap():
    record = factory.record("slgrad")
    record["weights"]["task"][3] = [0.0] * 10
    (axes,) = plots.task_weights([record]).axes
    assert np.isnan(axes.get_lines()[0].get_ydata()[3])


def test_every_arm_looks_different_in_print_and_keeps_its_look():
    looks = [style.line_style(place) for place in range(14)]
    assert len({(look["marker"], str(look["linestyle"])) for look in looks}) == 14
    study = factory.study(["ew", "slgrad", "oracle_ref"], TWO, seeds=1)
    records = factory.records(study)
    alone = plots.learning_curves([one for one in records if one["arm"] == "oracle_ref"], "loss", study)
    assert alone.axes[0].get_lines()[0].get_color() == style.COLOURS[2]


def test_a_long_legend_takes_few_lines(full):
    study, _ = full
    labels = [options["label"] for options in study.arms.values()]
    assert style.legend_height(labels, style.PAGE) < 0.8 < style.legend_height(labels, style.COLUMN)
