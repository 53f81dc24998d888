"""A table with its caption and footnotes, and how it is written: Markdown, LaTeX, CSV, always the same bytes."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mtlkit import files
from mtlkit.errors import MtlkitError


@dataclass
class Table:
    """What `report` returns; shows itself in a notebook, and as Markdown when printed.

    Attributes:
        frame: The cells as they are read, strings; one or two levels of column names.
        caption: One or two sentences.
        notes: Footnotes.
        numbers: The same in full precision, one row per number, for the CSV file; None: `frame` itself.
    """

    frame: pd.DataFrame
    caption: str = ""
    notes: list[str] = field(default_factory=list)
    numbers: pd.DataFrame | None = None

    def __str__(self) -> str:
        return markdown(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in (self.caption, *self.notes) if line)
        return self.frame.to_html(border=0) + lines


def markdown(table: Table) -> str:
    """Caption, GitHub's pipe table, notes."""
    return "\n\n".join(part for part in (table.caption, _pipes(_grid(table.frame)), *table.notes) if part) + "\n"


def pipe_table(frame: pd.DataFrame) -> str:
    """GitHub's pipe table of a frame, without its index."""
    return _pipes([list(frame.columns), *frame.astype(str).values.tolist()])


def _pipes(grid: Sequence[Sequence[str]]) -> str:
    """Padded, so that it reads well in a terminal too."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in grid]
    widths = [max(3, *(len(row[column]) for row in escaped)) for column in range(len(escaped[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in escaped]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def latex(table: Table, label: str) -> str:
    r"""A `table` float with booktabs rules, over both columns of a page, and shrunk to it, where it is wide.

    Needs `\usepackage{booktabs,adjustbox}`.
    """
    frame = table.frame
    width = frame.shape[1] + frame.index.nlevels
    star = "*" if width > 5 else ""
    lines = [rf"\begin{{table{star}}}", r"\centering", r"\footnotesize"]
    if table.caption:
        lines.append(rf"\caption{{{_tex(table.caption)}}}")
    lines += [rf"\label{{tab:{label}}}", r"\begin{adjustbox}{max width=\linewidth}"]
    lines += [rf"\begin{{tabular}}{{{'l' * width}}}", r"\toprule"]
    lines += [*_tex_header(frame), r"\midrule"]
    lines += [" & ".join(_tex(cell) for cell in row) + r" \\" for row in _grid(frame)[1:]]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}"]
    lines += [rf"\par\smallskip {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, rf"\end{{table{star}}}"]) + "\n"


def csv(table: Table) -> str:
    """The numbers, six significant digits."""
    if table.numbers is not None:
        return table.numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    header, *rows = _grid(table.frame)
    return pd.DataFrame(rows, columns=header).to_csv(index=False, lineterminator="\n")


def write_table(
    table: Table | pd.DataFrame, folder: str | Path, name: str, caption: str | None = None, label: str | None = None
) -> list[Path]:
    """Write `<name>.md`, `<name>.tex` and `<name>.csv` into `folder` and return their paths.

    `caption` takes the place of the table's own, `label` that of `name` in LaTeX's label. Raises MtlkitError if the
    folder cannot be written.
    """
    if isinstance(table, pd.DataFrame):
        table = Table(table)
    if caption is not None:
        table = Table(table.frame, caption, table.notes, table.numbers)
    folder, written = Path(folder), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("md", markdown(table)), ("tex", latex(table, label or name)), ("csv", csv(table))):
            written.append(folder / f"{name}.{suffix}")
            files.write(written[-1], text)
    except OSError as error:
        raise MtlkitError(f"cannot write the table {name} into {folder}: {error.strerror}.") from error
    return written


def number(value: float, decimals: int, signed: bool = False) -> str:
    """Fixed decimals with a real minus sign, and a plus where `signed`; zeros have neither; an en dash for NaN."""
    if value != value:
        return "–"
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def probability(value: float) -> str:
    """A p-value: three decimals, never zero; an en dash for NaN."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def _grid(frame: pd.DataFrame) -> list[list[str]]:
    """Header and rows as strings, the index first."""
    names = [str(name or "") for name in frame.index.names]
    header = names + [": ".join(part for part in _levels(column) if part) for column in frame.columns]
    rows = []
    for key, *cells in frame.itertuples(name=None):
        rows.append([str(part) for part in (key if isinstance(key, tuple) else (key,))] + [str(cell) for cell in cells])
    return [header, *rows]


def _levels(column: object) -> tuple[str, ...]:
    return tuple(str(part) for part in column) if isinstance(column, tuple) else (str(column),)


def _tex_header(frame: pd.DataFrame) -> list[str]:
    """One line of column names, or a line of groups with rules under them and a line of names."""
    names = [_tex(str(name or "")) for name in frame.index.names]
    if frame.columns.nlevels == 1:
        return [" & ".join(names + [_tex(str(column)) for column in frame.columns]) + r" \\"]
    groups: list[tuple[str, int]] = []
    for group, _ in frame.columns:
        if groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    cells, rules, start = [""] * len(names), [], len(names) + 1
    for group, size in groups:
        cells.append(rf"\multicolumn{{{size}}}{{c}}{{{_tex(group)}}}" if group else " & " * (size - 1))
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + size - 1}}}")
        start += size
    lower = " & ".join(names + [_tex(name) for _, name in frame.columns]) + r" \\"
    return [" & ".join(cells) + r" \\", " ".join(rules), lower]


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$",
    "–": "--", "×": r"$\times$", "†": r"$^{\dagger}$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "…": r"\dots{}",
    "Δ": r"$\Delta$",
}  # fmt: skip


def _tex(text: Sequence[str]) -> str:
    return "".join(_TEX.get(character, character) for character in text)
