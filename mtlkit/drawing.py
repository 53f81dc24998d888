"""All tables and figures of a study, in files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlkit import minima, plots, published, report, task_plots
from mtlkit.detection import detection_table
from mtlkit.selection import EPOCH_RULES, by_variant, in_study, metrics_of, one_variant
from mtlkit.studies import Study
from mtlkit.tables import Table, write_table
from mtlkit.task_tables import every_task_tables

if TYPE_CHECKING:
    from mtlkit.style import Figure

MARGINS = {"loss": 0.005, "auc": 0.01}
"""Smallest differences that matter, for binary tasks; claims carry their own."""


def draw_study(
    study: Study,
    records: Sequence[dict],
    folder: str | Path,
    scale: str,
    margins: Mapping[str, float] | None = None,
) -> list[Path]:
    """Write every table and figure of `study` into `folder`, and return the paths.

    Several data variants get a folder each. Records of other studies and of seeds that `scale` does not have are passed
    over.

    Args:
        margins: Per metric; None: MARGINS where the tasks are binary, and no verdicts where they are not.

    Raises:
        MtlkitError: No records of the study, two records for one seed, a folder that cannot be written.
    """
    study = study.at(scale)
    mine = in_study(records, study, scale)
    groups = by_variant(mine)
    if not groups:
        one_variant(mine)  # says so
    paths = []
    for variant, group in groups.items():
        target = Path(folder) / variant if len(groups) > 1 else Path(folder)
        paths += _draw(study, group, target, scale, margins)
    return paths


def _draw(
    study: Study, records: list[dict], folder: Path, scale: str, margins: Mapping[str, float] | None
) -> list[Path]:
    if study.tables == "every_task":
        tables, figures = _every_task(study, records, scale)
    else:
        tables, figures = _main_task(study, records, scale, margins)
    figures["task_weights"] = plots.task_weights(records, study)
    paths = []
    for name, table in tables.items():
        paths += write_table(table, folder, name, label=f"{study.name}_{name}")
    for name, figure in figures.items():
        paths += plots.save(figure, folder, name)
    return paths


def _main_task(
    study: Study, records: list[dict], scale: str, margins: Mapping[str, float] | None
) -> tuple[dict[str, Table], dict[str, "Figure"]]:
    metrics, by = metrics_of(records), study.tuning.get("metric", "loss")
    if margins is None:
        margins = MARGINS if "auc" in metrics else {}
    first, more = metrics[:2], metrics[2:]  # tables and figures with more than two are too wide to read
    tables, figures = {}, {}
    for at in EPOCH_RULES:
        for name, some in (("results", first), ("more_results", more)):
            if some:
                tables[f"{name}_{at}"] = report.table(records, study, scale, some, at, by)
        figures[f"results_{at}"] = plots.metric_against_noise(records, study, first, at, by)
    if more:
        figures["more_results_last"] = plots.metric_against_noise(records, study, more)
    for metric in metrics:
        tables[f"differences_{metric}"] = report.difference_table(
            records, study, scale, metric, margin=margins.get(metric)
        )
    for metric in first:
        figures[f"curves_{metric}"] = plots.learning_curves(records, metric, study)
    if "boxes" in study.figures:
        figures["boxes_last"] = task_plots.boxes(records, study, by)
    if any(record["weights"]["flipped_fraction"] for record in records):
        figures["flipped_mass"] = plots.flipped_mass(records, study)
    figures["weights"] = plots.weight_histogram(records, study)
    if (detected := detection_table(records, study, scale)) is not None:
        tables["detection"] = detected
    if any(map(minima.measured, records)):
        tables["sharpness"] = minima.sharpness_table(records, study, scale)
        figures["sharpness"] = minima.sharpness_figure(records, study)
    return tables, figures


def _every_task(study: Study, records: list[dict], scale: str) -> tuple[dict[str, Table], dict[str, "Figure"]]:
    """The epoch that tuning chooses is shown where all tasks were judged at every evaluation."""
    tables, figures = {}, {}
    always = all("tasks" in one["tuning"] for record in records for one in record["evaluations"])
    for at in EPOCH_RULES if always else ("last",):
        for condition, table in every_task_tables(records, study, scale, at, published.load(study)).items():
            tables[f"tasks_{condition}_{at}"] = table
        figures[f"gains_{at}"] = task_plots.gains(records, study, at)
    if "boxes" in study.figures:
        figures["boxes_last"] = task_plots.boxes(records, study, "delta_p")
    return tables, figures
