"""The figures of a study, or of a single run in a notebook. They read records, and nothing else, and have no titles.

Every function takes records of one data variant and, for order and labels, the study that they belong to; bands and
bars are 95 % t intervals over seeds. matplotlib is imported when something is drawn.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtlkit import files, statistics
from mtlkit.errors import MtlkitError, one_of
from mtlkit.metrics import HIGHER_IS_BETTER
from mtlkit.selection import metrics_of, with_direction
from mtlkit.studies import Study
from mtlkit.view import NEAR, View, detects, moves, shares, spread

if TYPE_CHECKING:
    from mtlkit.style import Figure


def styled(draw: Callable[..., "Figure"]) -> Callable[..., "Figure"]:
    """Draw with our settings; reading them as late as this keeps matplotlib out of the import."""

    @functools.wraps(draw)
    def styled(*arguments: object, **options: object) -> "Figure":
        from mtlkit import style

        with style.style():
            return draw(*arguments, **options)

    return styled


@styled
def metric_against_noise(
    records: Sequence[dict],
    study: Study | None = None,
    metrics: Sequence[str] = ("loss", "auc"),
    at: str = "last",
    by: str = "loss",
) -> "Figure":
    """Main-task test metrics by condition and arm; epoch rules as in `selection`.

    Conditions of different kinds: a panel each, a row per arm: mean, interval, small dots for seeds, and a line at the
    baseline. A grid of noise levels: a panel per metric, a line per arm.
    """
    view = View(records, study)
    for metric in metrics:
        one_of("metric", metric, metrics_of(records))
    if view.noise():
        return _noise_lines(view, metrics, at, by)
    return _dots(view, study.baseline if study else None, metrics, at, by)


@styled
def learning_curves(records: Sequence[dict], metric: str = "loss", study: Study | None = None) -> "Figure":
    """Test metric of the main task by epoch, a line with a band per arm, a panel per condition."""
    one_of("metric", metric, metrics_of(records))

    def series(record: dict) -> list[tuple[float, float]]:
        return [(one["epoch"], one["test"][metric]) for one in record["evaluations"]]

    view = View(records, study)
    return _curves(view, view.arms, series, _axis_label(metric), may_be_log=not HIGHER_IS_BETTER[metric])


@styled
def flipped_mass(records: Sequence[dict], study: Study | None = None) -> "Figure":
    """Share of the main task's weight that lies on flipped samples, by epoch; dashed: their share of the samples.

    The dashed line is the median over runs: an arm that trains on the reference set too has fewer flipped samples.

    Raises MtlkitError if no record has flipped samples.
    """

    def series(record: dict) -> list[tuple[float, float]]:
        return list(zip(record["weights"]["epoch"], record["weights"]["flipped_share"], strict=True))

    flipped = [record for record in records if record["weights"]["flipped_fraction"]]
    if not flipped:
        raise MtlkitError("no record has flipped samples, so there is no weight on them to draw.")
    view = View(flipped, study)
    moving = [arm for arm in view.arms if any(detects(view.of(arm, name)) for name in view.conditions)]
    note = view.left_out(moving, f"within {NEAR} of the share of flipped samples")
    figure = _curves(view, moving or view.arms, series, "weight share of flipped samples", note=note)
    for axes, condition in zip(figure.axes, view.conditions, strict=True):
        fractions = [one["weights"]["flipped_fraction"] for one in flipped if one["condition"] == condition]
        axes.axhline(float(np.median(fractions)), color="black", linestyle="--", linewidth=0.8, zorder=5)
        axes.set_ylim(bottom=0)
    return figure


@styled
def weight_histogram(records: Sequence[dict], study: Study | None = None) -> "Figure":
    """Weights of the main task's samples late in training, clean against flipped, as shares of either kind.

    1 is an equal share; the bar at 0 stands for weights of exactly zero, the other bars are as wide as the record's
    bins are on a logarithmic axis. Arms that give all samples one weight are named below instead of drawn.
    """
    from mtlkit import style

    view = View(records, study)
    drawn = [arm for arm in view.arms if any(spread(one) for one in view.of(arm))]
    figure, grid = style.facets(*view.labels(drawn), sharey="row")
    for (arm, condition), axes in grid.items():
        histograms = [one["weights"]["histogram"] for one in view.of(arm, condition)]
        for kind, options in (
            ("clean", {"color": style.CLEAN, "fill": True}),
            ("flipped", {"color": style.FLIPPED, "linewidth": 1.0}),
        ):
            counts = np.sum([one[kind][0] for one in histograms], axis=0, dtype=float)
            if np.any(counts):
                style.outline(axes, counts / counts.sum(), kind, **options)
        if histograms:
            style.weight_axis(axes, histograms[0]["edges"])
        else:
            style.blank(axes)
    style.finish(figure, grid.values(), "weight (1 = equal share)", view.left_out(drawn, "one weight for all samples"))
    figure.supylabel("share of samples")
    return figure


@styled
def task_weights(records: Sequence[dict], study: Study | None = None) -> "Figure":
    """Share of the weight that each task has, by epoch: the main task in black, the others in grey, dashed 1/T.

    Arms whose shares do not change are named below instead of drawn.
    """
    from mtlkit import style

    view = View(records, study)
    drawn = [arm for arm in view.arms if any(moves(one) for one in view.of(arm))]
    figure, grid = style.facets(*view.labels(drawn), sharey="row")
    for (arm, condition), axes in grid.items():
        runs = [shares(one) for one in view.of(arm, condition)]
        if not runs:
            style.blank(axes)
            continue
        mean, half = statistics.interval(runs)
        epochs = view.of(arm, condition)[0]["weights"]["epoch"]
        axes.plot(epochs, mean[:, 0], color="black", linewidth=1.3, label="main task", zorder=3)
        axes.fill_between(epochs, (mean - half)[:, 0], (mean + half)[:, 0], color="black", alpha=0.2, linewidth=0)
        for task in range(1, mean.shape[1]):
            axes.plot(epochs, mean[:, task], color=style.GREY, linewidth=0.4, alpha=0.7, label="other tasks")
        axes.axhline(1 / mean.shape[1], color="black", linestyle="--", linewidth=0.7, label="equal share")
    for axes in grid.values():
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True)
    style.finish(figure, grid.values(), "epoch", view.left_out(drawn, "constant shares"))
    figure.supylabel("share of the weight")
    return figure


def save(figure: "Figure", folder: str | Path, name: str) -> list[Path]:
    """Write `<name>.png` (200 dpi) and `<name>.pdf` into `folder`, always the same bytes, and return their paths.

    Raises MtlkitError if the folder cannot be written.
    """
    paths = [Path(folder) / f"{name}.{kind}" for kind in ("png", "pdf")]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path in paths:
            files.write(path, figure.encode(path.suffix[1:]))
    except OSError as error:
        raise MtlkitError(f"cannot write the figure {name} into {folder}: {error.strerror}.") from error
    return paths


def _dots(view: View, baseline: str | None, metrics: Sequence[str], at: str, by: str) -> "Figure":
    from mtlkit import style

    arms, conditions = list(view.arms), list(view.conditions)
    rows, columns = (len(metrics), len(conditions)) if len(conditions) > 1 else (1, len(metrics))
    width = style.PAGE if columns > 1 else style.COLUMN
    figure, grid = style.panels(rows, columns, width, rows * (0.55 + 0.165 * len(arms)), sharey=True)
    pairs = [(metric, condition) for metric in metrics for condition in conditions]
    for axes, (metric, condition) in zip(grid.flat, pairs, strict=True):
        rows = [(view.places[arm], view.test(arm, condition, metric, at, by)) for arm in arms]
        ends = style.dots(axes, rows)
        if baseline in arms and len(base := rows[arms.index(baseline)][1]):
            axes.axvline(np.mean(base), color="black", linewidth=0.6, linestyle="--", zorder=1)
        axes.set_xlabel(style.wrapped(axes, _axis_label(metric)))
        if not HIGHER_IS_BETTER[metric] and style.wants_log(ends):
            style.log_axis(axes, "x")
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(arms)), list(view.arms.values()))
        axes.set_ylim(len(arms) - 0.4, -0.6)
    if len(conditions) > 1:
        for axes, label in zip(grid[0], view.conditions.values(), strict=True):
            axes.set_title(style.wrapped(axes, label))
    style.make_room(figure, grid)
    return figure


def _noise_lines(view: View, metrics: Sequence[str], at: str, by: str) -> "Figure":
    from mtlkit import style

    noise = view.noise()
    columns = min(2, len(metrics))
    rows, width = -(-len(metrics) // columns), _width(columns, view.arms)
    height = 2.2 * rows + style.legend_height(view.arms.values(), width)
    figure, grid = style.panels(rows, columns, width, height)
    step = min(np.diff(sorted(noise.values())))
    for axes, metric in zip(grid.flat, metrics, strict=False):
        for place, arm in enumerate(view.arms):
            points = []
            for condition, level in sorted(noise.items(), key=lambda item: item[1]):
                values = view.test(arm, condition, metric, at, by)
                if len(values):  # side by side, so that intervals do not hide each other
                    aside = 0.4 * step * ((place + 0.5) / len(view.arms) - 0.5)
                    points.append((level + aside, *statistics.interval(values)))
            if points:
                levels, means, halves = zip(*points, strict=True)
                axes.errorbar(
                    levels,
                    means,
                    yerr=halves,
                    label=view.arms[arm],
                    elinewidth=0.6,
                    **style.line_style(view.places[arm]),
                )
        constant = [(one["data"].get("constant") or {}).get(metric) for one in view.records]
        if None not in constant:
            label = "constant (reference mean)"
            axes.axhline(float(np.mean(constant)), label=label, color="0.4", linestyle=":", linewidth=1)
        axes.set_ylabel(_axis_label(metric))
        axes.set_xticks(sorted(noise.values()))
        axes.grid(axis="y")
    style.finish(figure, list(grid.flat)[: len(metrics)], "noise")
    return figure


def _curves(
    view: View,
    arms: Collection[str],
    series: Callable[[dict], list[tuple[float, float | None]]],
    label: str,
    may_be_log: bool = False,
    note: str = "",
) -> "Figure":
    """A panel per condition, a line with a band per arm; `series` gives the (epoch, value) pairs of a record. Lines far
    above most leave their panel."""
    from mtlkit import style

    columns = {1: 1, 2: 2, 4: 2}.get(len(view.conditions), 3)
    rows, width = -(-len(view.conditions) // columns), _width(columns, arms)
    height = 2.0 * rows + (0.3 if note else 0.15) + style.legend_height([view.arms[arm] for arm in arms], width)
    figure, grid = style.panels(rows, columns, width, height)
    for axes, (condition, title) in zip(grid.flat, view.conditions.items(), strict=False):
        everything = []
        for arm in arms:
            runs = [series(one) for one in view.of(arm, condition)]
            length = min((len(run) for run in runs), default=0)
            points = np.asarray([run[:length] for run in runs], float)  # None becomes NaN
            if not np.isfinite(points).any():
                continue
            epochs, (mean, half) = points[0, :, 0], statistics.interval(points[:, :, 1])
            look = style.line_style(view.places[arm]) | {"label": view.arms[arm], "markevery": max(1, length // 8)}
            axes.plot(epochs, mean, **look)
            axes.fill_between(epochs, mean - half, mean + half, color=look["color"], alpha=0.1, linewidth=0)
            everything += mean.tolist()
        axes.grid(axis="y")
        axes.locator_params(axis="x", integer=True)
        means = np.asarray(everything)
        if len(means) and np.nanmax(means) > (limit := style.far(means)):  # a run diverged
            means = means[means <= limit]
            axes.set_ylim(0.8 * means.min(), limit)
        if may_be_log and style.wants_log(means):
            style.log_axis(axes, "y")
        if len(view.conditions) > 1:
            axes.set_title(style.wrapped(axes, title))
    style.finish(figure, list(grid.flat)[: len(view.conditions)], "epoch", note)
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    return figure


def _width(columns: int, arms: Collection[str]) -> float:
    """One column of the page, unless there are panels side by side or a long legend."""
    from mtlkit import style

    return style.COLUMN if columns == 1 and len(arms) <= 6 else style.PAGE


def _axis_label(metric: str) -> str:
    return f"test {with_direction(metric)}"
