"""What there is on this machine: the data sets and the records. The start page shows it, `data status` prints it."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from mtlkit import paths, records, studies
from mtlkit.errors import one_of
from mtlkit.selection import arm_of, by_variant
from mtlkit.studies import Study

DATA_SETS = {
    "cifar10": ("cifar_flip", "scikit-learn's digits"),
    "mnist": ("multi_mnist", "scikit-learn's digits"),
    "nyuv2": ("nyuv2", "rendered rooms"),
    "cityscapes": ("cityscapes", "rendered streets"),
    "pascal_context": ("pascal_context", "rendered pictures"),
    "celeba": ("celeba", "drawn faces"),
    "office31": ("office", "digits in four styles"),
    "office_home": ("office", "digits in four styles"),
    "pacs": ("office", "digits in four styles"),
    "xtreme": ("xtreme", "four toy languages"),
}
"""Data set -> the notebook that reads it, and what is built in where it is not there."""

DOWNLOADED = {
    "cifar10": "cifar10.npz, or torchvision's folder cifar-10-batches-py",
    "mnist": "torchvision's folder MNIST/raw with its four files",
}
"""Those that `data prepare` downloads, and as what; the files of the others have to be there."""


def data_set(name: str) -> Any:
    """What reads a data set, by `status(data_root)` and `prepare(data_root)`.

    Raises:
        MtlkitError: An unknown name.
    """
    one_of("the data set", name, DATA_SETS)
    if DATA_SETS[name][0] == "office":
        return import_module("mtlkit.data.office").COLLECTIONS[name]
    return import_module(f"mtlkit.data.{'multi_mnist' if name == 'mnist' else name}")


def facts(name: str, data_root: str = "") -> dict[str, str]:
    """What there is to say of a data set, in words: whether it is there and whole, where it is looked for, what is used
    without it, and how it is got.

    Args:
        name: A key of `DATA_SETS`.
        data_root: Empty: `MTLKIT_DATA`, else `data/` in the repository.
    """
    found = data_set(name).status(data_root)
    notebook, stand_in = DATA_SETS[name]
    there = f"yes, {found['variant']} in {found['path']}" if found["found"] else "no"
    expected = DOWNLOADED.get(name) or found["expected"]
    return {
        "data set": name,
        "notebook": notebook,
        "there": f"damaged: {found['problem']}" if found["problem"] else there,
        "looked for": f"below {paths.data_root(data_root)}: {expected}",
        "without it": f"{stand_in}, built in",
        "source": found["source_url"],
        "licence": found["licence"],
        "how to prepare": found["how_to_prepare"],
    }


def data_sets(data_root: str = "") -> pd.DataFrame:
    """A row per data set: whether it is below the data root, what `source: auto` uses, and how it is got.

    Args:
        data_root: Empty: `MTLKIT_DATA`, else `data/` in the repository.
    """
    rows = []
    for name, (notebook, stand_in) in DATA_SETS.items():
        found = data_set(name).status(data_root)
        how = found["how_to_prepare"]
        if how.startswith("python"):
            files = "" if name in DOWNLOADED else f"files from [its site]({found['source_url']}), then "
            how = f"{files}`{how}`"
        rows.append(
            {
                "data set": name,
                "notebook": f"[{notebook}]({notebook}.ipynb)",
                "there": "damaged" if found["problem"] else "yes" if found["found"] else "no",
                "what `source: auto` uses": found["variant"] or f"{stand_in}, built in",
                "how to get it": found["problem"] or ("" if found["found"] else how),
            }
        )
    return pd.DataFrame(rows)


def committed() -> list[str]:
    """The studies whose records came with the repository."""
    return sorted(path.name for path in paths.COMMITTED_RECORDS.glob("*") if path.is_dir())


def records_there(runs: str = "") -> pd.DataFrame:
    """A row per study, scale and data variant, and one per notebook that was run on its own: how many of the planned
    records there are, how many other code than today's made, and when the newest was made.

    Args:
        runs: The folder that runs write below; empty: `MTLKIT_RUNS`, else `runs/` in the repository.
    """
    local, rows = paths.runs(runs), []
    for study in map(studies.load, studies.names()):
        places = [("committed", study.committed, paths.COMMITTED_RECORDS / study.name)]
        places += [("local", scale, local / scale / "records" / study.name) for scale in study.scales]
        found = [_row(mine, where, study, scale) for where, scale, folder in places
                 for mine in by_variant(records.read(folder)).values()]  # fmt: skip
        rows += found or [_row([], "none", study, study.committed)]
    for folder in sorted((local / "records").glob("*")):
        rows += [_row(mine, "local") for mine in by_variant(records.read(folder)).values()]
    return pd.DataFrame(rows)


def _row(found: Sequence[dict], where: str, study: Study | None = None, scale: str = "–") -> dict[str, object]:
    there = {(record["condition"], arm_of(record), record["seed"]) for record in found}
    planned, notebook = there, study.experiment if study else found[0]["experiment"]
    if study:
        planned = {(*cell, seed) for cell in study.at(scale).cells() for seed in study.seeds(scale)}
    conditions, arms, seeds = (len({key[place] for key in planned}) for place in range(3))
    return {
        "study": study.name if study else "(on its own)",
        "notebook": f"[{notebook}]({notebook}.ipynb)",
        "scale": scale,
        "conditions": conditions,
        "arms": arms,
        "seeds": seeds,
        "records": where,
        "data": found[0]["data"]["variant"] if found else "–",
        "there": f"{len(there & planned)} of {len(planned)}",
        "stale": str(sum(map(records.is_stale, found))) if found else "–",
        "newest": max((record["created"][:10] for record in found), default="–"),
    }
