"""Published results, typed from the papers that each table names, to stand below ours and never among them.

`params/published/<study>.yaml`, or `<experiment>.yaml`:

    methods: {EW: ew, MGDA-UB: mgda}    # as printed -> weighting; what we do not have is left out
    tables:
      - name: RLW paper                 # heads the rows
        source: "Lin et al. ..."        # what a footnote says
        data: nyuv2-mtan                # the data variant
        where: {network: deeplab}       # optional: shown where a run has these parameters
        like: {epochs: 300}             # optional: what else has to agree before numbers can be compared
        columns:                        # optional: metrics by task; the task `average` is the mean over tasks
          segmentation: [miou, pixel_accuracy]
        factor: 0.01                    # optional: printed values of metrics times this are in our units
        delta: {kind: p, against: EW}   # optional, the last column: see `every_task.Delta`
        rows:
          EW: [53.77, 75.45, 0]         # as many as there are columns
          IMTL-L: 0.35                  # the last column alone, where the others are not at hand
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlkit import paths
from mtlkit.errors import MtlkitError, check_names, one_of
from mtlkit.every_task import delta_label
from mtlkit.metrics import LABELS
from mtlkit.studies import Study, read_yaml
from mtlkit.tables import number

KEYS = {"name": True, "source": True, "data": True, "rows": True, "where": False, "like": False, "columns": False,
        "factor": False, "delta": False}  # fmt: skip
"""Of a table, and whether they are required."""


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        columns: (task, metric); the last may be `("", label)`, that of a delta.
        rows: Values by method as printed, None where one is not at hand.
        methods: Weightings by method as printed.
    """

    name: str
    source: str
    data: str
    where: Mapping[str, Any]
    like: Mapping[str, Any]
    columns: list[tuple[str, str]]
    rows: Mapping[str, list[float | None]]
    methods: Mapping[str, str]

    def texts(self) -> dict[str, dict[tuple[str, str], str]]:
        """Cells by column of every row as a table shows them: as many decimals as are printed, deltas with their sign,
        an en dash where a value is not at hand."""
        shown: dict[str, dict[tuple[str, str], str]] = {f"{method} (published)": {} for method in self.rows}
        for place, column in enumerate(self.columns):
            values = [row[place] for row in self.rows.values()]
            digits = max((len(f"{value}".partition(".")[2]) for value in values if value is not None), default=0)
            for cells, value in zip(shown.values(), values, strict=True):
                cells[column] = number(np.nan if value is None else value, digits, signed=not column[0])
        return shown

    def belongs(self, records: Sequence[dict], tasks: Sequence[str]) -> bool:
        """Whether some of the runs have the network, or what else `where` names, and the tasks of this table."""
        known = all(task in ("", "average", *tasks) for task, _ in self.columns)
        return known and all(str(value) in _parameters(records, name) for name, value in self.where.items())

    def differences(self, records: Sequence[dict]) -> list[str]:
        """What sets the runs apart from this table, so that numbers cannot be compared; empty where nothing does."""
        found = [("data", self.data, {record["data"]["variant"] for record in records})]
        found += [(name, str(value), _parameters(records, name)) for name, value in (self.where | self.like).items()]
        return [f"{name} {theirs} there, {' or '.join(sorted(ours))} here" for name, theirs, ours in found
                if ours != {theirs}]  # fmt: skip


def load(study: Study) -> list[Published]:
    """The published tables of a study, or else those of its experiment; none where there is neither file.

    Raises MtlkitError naming the table and the wrong entry.
    """
    files = [paths.PARAMS / "published" / f"{name}.yaml" for name in (study.name, study.experiment)]
    return next((read(path) for path in files if path.is_file()), [])


def read(path: Path) -> list[Published]:
    """The tables of a file; raises `MtlkitError` for the first thing that is wrong in it."""
    from mtlkit.weighting import find

    content = read_yaml(path)
    check_names(str(path), content, {"methods": True, "tables": True})
    _mapping(f"{path}: methods", content["methods"])
    if not isinstance(content["tables"], list):
        raise MtlkitError(f"{path}: tables should be a list.")
    for method, weighting in content["methods"].items():
        if not isinstance(weighting, str):
            raise MtlkitError(f"{path}: {method} is {weighting!r}, which should be the name of a weighting.")
        find(weighting)
    tables = [_table(f"{path}, table {number}", entry, content["methods"])
              for number, entry in enumerate(content["tables"], 1)]  # fmt: skip
    for method in content["methods"]:
        one_of(f"a method ({path})", method, [name for table in tables for name in table.rows])
    return tables


def _table(where: str, entry: object, methods: Mapping[str, str]) -> Published:
    check_names(where, entry, KEYS)
    for key in ("where", "like", "columns", "delta", "rows"):
        _mapping(f"{where}: {key}", entry.get(key, {}))
    columns = []
    for task, metrics in entry.get("columns", {}).items():
        if not isinstance(metrics, list):
            raise MtlkitError(f"{where}: {task} is {metrics!r}, which should be a list of metrics.")
        for metric in metrics:
            one_of(f"a metric of {task} ({where})", metric, LABELS)
            columns.append((task, metric))
    if "delta" in entry:
        check_names(f"{where}, delta", entry["delta"], {"kind": True, "against": True})
        one_of(f"kind ({where}, delta)", entry["delta"]["kind"], ("p", "m"))
        columns.append(("", delta_label(**entry["delta"])))
    if not columns:
        raise MtlkitError(f"{where}: it needs columns, or a delta.")
    if not isinstance(entry.get("factor", 1), int | float):
        raise MtlkitError(f"{where}: factor is {entry['factor']!r}, which should be a number.")
    factors = [entry.get("factor", 1) if task else 1 for task, _ in columns]
    rows = {str(name): _row(f"{where}, {name}", values, factors) for name, values in entry["rows"].items()}
    if not rows:
        raise MtlkitError(f"{where}: it has no rows.")
    texts = {key: str(entry[key]) for key in ("name", "source", "data")}
    return Published(**texts, where=entry.get("where", {}), like=entry.get("like", {}), columns=columns, rows=rows,
                     methods=methods)  # fmt: skip


def _row(where: str, values: object, factors: Sequence[float]) -> list[float | None]:
    given = values if isinstance(values, list) else [values]
    if isinstance(values, list) and len(values) != len(factors):
        raise MtlkitError(f"{where}: {len(values)} values for {len(factors)} columns; give all, or the last alone.")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MtlkitError(f"{where}: {value!r} should be a number.")
    unknown: list[float | None] = [None] * (len(factors) - len(given))
    return unknown + [round(value * by, 8) for value, by in zip(given, factors[len(unknown) :], strict=True)]


def _mapping(where: str, entry: object) -> None:
    if not isinstance(entry, dict):
        raise MtlkitError(f"{where}: {entry!r} should be a mapping.")


def _parameters(records: Sequence[dict], name: str) -> set[str]:
    return {str(record["parameters"].get(name, "nothing")) for record in records}
