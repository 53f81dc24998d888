"""Everything that is drawn from the committed records: tables, figures, their gallery, and the page of claims."""

import gc
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from mtlkit import claims, drawing, files, paths, records, studies
from mtlkit.errors import MtlkitError, one_of
from mtlkit.selection import by_variant
from mtlkit.studies import Study
from mtlkit.tables import Table, pipe_table, write_table

ALT = {
    "results": "Test metrics of the main task for every method, in a panel per condition or against the noise; mean "
    "and 95 % interval over seeds",
    "more_results": "More test metrics of the main task, drawn in the same way",
    "curves": "Test metric of the main task over training, a line per method with its interval",
    "flipped_mass": "Share of the main task's weight on wrong labels over training, beside their share of the labels",
    "gains": "Delta_p of every method to the baseline, mean and 95 % interval over seeds, and the gain of every task",
    "boxes": "Box plot for every method over seeds, with all seeds as dots",
    "weights": "Histogram of the main task's sample weights, right labels against wrong ones",
    "sharpness": "Sharpness of the training loss against the training loss itself, a line per method along training",
    "task_weights": "Share of the weight that every task has over training",
}
"""By how the name of a figure begins: what it shows, for those who cannot see it."""

COLUMNS = ["data", "comparison", "condition", "metric", "difference [95 %]", "margin", "p (Holm)", "seeds", "verdict"]
"""Of the tables of claims, those that the page shows."""

RULE = (
    "A claim **holds** where every comparison that it rests on comes out better by at least the margin, with Holm's "
    "correction. It **holds in part** where some do and none comes out worse, and is **mixed** where others do. It "
    "**does not hold** where none comes out better and each is worse or within the margin, and is **undecided** in all "
    "other cases. A claim that something is no worse counts differences within the margin as it does better ones. **So "
    "far**: some comparisons lack records yet; **open**: all do."
)


def redraw(names: Sequence[str] = (), folder: Path = paths.FIGURES, say: Callable[[str], None] = print) -> list[Path]:
    """Draw the studies called `names`, or all that have committed records, into `folder`; with all of them also the
    claims and the gallery. Returns the files. Nothing is trained, and the same records give the same bytes. Studies are
    drawn side by side on all cores, by processes that import the script which calls this: it needs a main guard.

    Raises:
        MtlkitError: A study without records, a folder that cannot be written.
    """
    there = {path.name: path for path in sorted(paths.COMMITTED_RECORDS.glob("*")) if path.is_dir()}
    if not there:
        raise MtlkitError(f"there are no records below {paths.COMMITTED_RECORDS}.")
    for name in names:
        one_of("the study", name, there)
    found = {name: records.read(there[name]) for name in names or there}
    whole, drawn, written = set(found) == set(there), {}, []
    context = get_context("forkserver")  # imports once for all workers
    context.set_forkserver_preload(["mtlkit.drawing", "mtlkit.style", "mtlkit.nets", "mtlkit.weighting"])
    # Without garbage collection: walking through records and figures again and again takes a fifth of the time.
    with ProcessPoolExecutor(min(len(found), os.cpu_count() or 1), context, gc.disable) as pool:
        largest_first = sorted(found, key=lambda name: -len(found[name]))
        being_drawn = {name: pool.submit(_draw, name, found[name], folder / name) for name in largest_first}
        if whole:
            tables = claims.claims([one for mine in found.values() for one in mine], paths.PARAMS / "claims.yaml")
        for name, mine in found.items():
            drawn[name] = being_drawn[name].result()
            written += drawn[name]
            say(f"{name}: {len(mine)} records, {len(drawn[name])} files in {folder / name}")
    if whole:
        for table in tables:
            written += write_table(table, folder / "claims", table.caption.partition(":")[0])
        shown = {path.relative_to(folder).as_posix() for path in written}
        written_down = paths.PARAMS / "claims.yaml"
        page = claims_page(claims.statements(written_down), claims.load(written_down), tables, shown)
        sections = [_section(studies.load(name), mine, drawn[name], folder) for name, mine in found.items()]
        for path, text in ((folder / "claims" / "README.md", page), (folder / "README.md", _gallery(sections))):
            try:
                files.write(path, text)
            except OSError as error:
                raise MtlkitError(f"{path} cannot be written ({error.strerror}).") from None
            written.append(path)
            say(f"written: {path}")
    return written


def _draw(name: str, mine: Sequence[dict], folder: Path) -> list[Path]:
    study = studies.load(name)
    return drawing.draw_study(study, mine, folder, study.committed)


def claims_page(
    statements: Sequence[dict], families: Mapping[str, dict], tables: Sequence[Table], shown: Container[str]
) -> str:
    """Markdown: every claim, its verdict, the comparisons that it rests on, what was changed after first runs, and the
    figures of it that are `shown`."""
    rows = pd.concat([table.frame.reset_index() for table in tables], ignore_index=True)
    numbers = pd.concat([table.numbers for table in tables], ignore_index=True)
    rows.insert(0, "data", numbers["variant"].replace("", "–"))
    top, parts = ["| | claim | source | verdict |\n|---|---|---|---|"], []
    for number, statement in enumerate(statements, 1):
        bases = statement.get("rests_on", [])
        chosen = [any(family == base["family"] and arm == base.get("arm", arm) for base in bases)
                  for family, arm in zip(numbers["family"], numbers["arm"], strict=True)]  # fmt: skip
        word = verdict(list(numbers.loc[chosen, "verdict"]), statement.get("expects", "better"))
        if numbers.loc[chosen, "exploratory"].any():
            word += " (exploratory)"
        top.append(f"| [{number}](#claim-{number}) | {statement['claim']} | {statement['source']} | **{word}** |")
        parts.append(f"## Claim {number}\n\n{statement['claim']} ({statement['source']})\n\n**Verdict: {word}.**")
        if not bases:
            parts.append(f"Why: {statement['why']}.")
            continue
        parts.append(pipe_table(rows.loc[chosen, COLUMNS]))
        links = [f"[{family}]({family}.md)" for family in dict.fromkeys(base["family"] for base in bases)]
        links += [f"[{figure}](../{figure})" for figure in statement.get("figures", []) if figure in shown]
        about = [families[base["family"]]["study"] for base in bases]
        parts += dict.fromkeys(f"{study.name}: {study.again}" for study in about if study.again)
        parts.append(f"The whole tables, and figures: {', '.join(links)}.")
    return "\n\n".join(["# Claims, and what the records say", RULE, "\n".join(top), *parts]) + "\n"


def verdict(words: Sequence[str], expects: str = "better") -> str:
    """What is said of a claim, from the verdicts of the comparisons that it rests on. One that expects `no_worse` is
    borne out by those within the margin as well."""
    known = [word for word in words if word]
    if expects == "no_worse":
        known = ["better" if word == "within margin" else word for word in known]
    if not known:
        return "open"
    if "better" in known:
        said = "mixed" if "worse" in known else "holds" if set(known) == {"better"} else "holds in part"
    else:
        said = "undecided" if "undecided" in known else "does not hold"
    return said if len(known) == len(words) else f"{said}, so far"


def _section(study: Study, mine: Sequence[dict], drawn: Sequence[Path], folder: Path) -> str:
    """A study in the gallery."""
    seeds = sorted({record["seed"] for record in mine})
    made = (f"{len(mine)} records, data {', '.join(by_variant(mine))}, seeds {seeds[0]} to {seeds[-1]}, newest of "
            f"{max(record['created'] for record in mine)[:10]}. Trained by `make reproduce SCALE={study.committed} "
            f"STUDIES={study.name}`, drawn by `make figures`.")  # fmt: skip
    parts = [f"## {study.name}", f"{made} {study.again}".rstrip()]
    for path in drawn:
        if path.suffix == ".png":
            where = path.relative_to(folder).with_suffix("")
            alt = ALT[max((key for key in ALT if path.stem.startswith(key)), key=len)]
            parts.append(f"![{study.name}, {path.stem}: {alt}]({where}.png)\n\n[{path.stem}.pdf]({where}.pdf)")
    tables = [path.relative_to(folder).with_suffix("") for path in drawn if path.suffix == ".md"]
    parts.append("\n".join(f"- [{path.stem}]({path}.md), [LaTeX]({path}.tex), [CSV]({path}.csv): "
                           f"{_caption(folder / f'{path}.md')}" for path in tables))  # fmt: skip
    return "\n\n".join(parts)


def _caption(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0]


def _gallery(sections: Iterable[str]) -> str:
    head = (
        "# Tables and figures\n\nAll of it is drawn from [records](records) by `make figures`, or by "
        "[tables_and_figures.ipynb](../notebooks/tables_and_figures.ipynb); the same records give the same bytes. "
        "What they say about the papers: [claims](claims/README.md). What a step costs: [bench](bench/steps.md)."
    )
    return "\n\n".join([head, *sections]) + "\n"
