"""How every figure looks: sizes of a paper's column, colours that survive colour-blindness and print, stable bytes.

Imports matplotlib, and so is itself imported only where something is drawn. Works on the object interface: no global
state, no display; a figure shows itself in a notebook.
"""

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure as MatplotlibFigure

from mtlkit import statistics
from mtlkit.tables import number

COLUMN, PAGE = 3.35, 6.9
"""Width in inches of one column and of a page of two."""

COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
"""Okabe and Ito, without yellow, which is lost on white paper."""

MARKERS = "osD^vPX<>*phd8"
LINES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2))]
ZERO_GAP = 1.5
"""Bin widths between the bar of zero weights and the others."""

TICKS = (0.01, 0.1, 1, 10, 100)
"""Of a weight histogram."""

LETTERS_PER_INCH = 20
"""Of a legend, and of what is written above and below a panel."""

BESIDE = 0.19
"""Inches that stay free between two panels, and so between what is written at them."""

LINE = 0.12
"""Inches that a line of text is high."""

NARROW, NARROWEST = 5, 8
"""From so many panels side by side on, three numbers are all that fits below one, and two."""

LABELS = 1.45
"""Inches that the labels at the left of a page take of what panels have."""

GREY, CLEAN, FLIPPED = "#666666", "#9CCBE8", "#B23A00"

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.columnspacing": 1.3,
    "figure.labelsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # letters stay text
    "ps.fonttype": 42,  # matplotlib 3.11 goes by this in a PDF too: otherwise minus and arrows get a second font
    "mathtext.fontset": "dejavusans",
}


@contextmanager
def style() -> Iterator[None]:
    """The settings above, and nothing of the user's own."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


class Figure(MatplotlibFigure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        return self.encode("png", dpi=150)

    def encode(self, kind: str, dpi: int = 200) -> bytes:
        """The file's bytes, without the date that a PDF would carry."""
        buffer = io.BytesIO()
        self.set_dpi(dpi)
        canvas, metadata = {"png": (FigureCanvasAgg, None), "pdf": (FigureCanvasPdf, {"CreationDate": None})}[kind]
        with style():  # not `savefig`, which draws everything once more, into nothing
            getattr(canvas(self), f"print_{kind}")(buffer, metadata=metadata)
        self.set_layout_engine("none")  # the panels have found their places; doing it again takes half of the time
        return buffer.getvalue()


def panels(rows: int, columns: int, width: float, height: float, **options: object) -> tuple[Figure, np.ndarray]:
    """A figure of `width` x `height` inches and its axes `(rows, columns)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def wrapped(axes: Axes, text: str) -> str:
    """A title or label in as many lines as the width of its panel asks for; no line begins with an arrow."""
    columns, width = _columns(axes), axes.figure.get_figwidth()
    room = (width - LABELS) / columns if columns > 2 else width / columns
    bound = text.replace(" ↑", "\xa0↑").replace(" ↓", "\xa0↓")
    lines = textwrap.fill(bound, int(LETTERS_PER_INCH * (room - BESIDE)), break_long_words=False)
    return lines.replace("\xa0", " ")


def make_room(figure: Figure, grid: np.ndarray) -> None:
    """Height for what titles and labels have beyond one line, so that no panel loses it."""
    written = [[axes.get_title("left") for axes in grid[0]], *([axes.get_xlabel() for axes in row] for row in grid)]
    more = sum(max(text.count("\n") for text in texts) for texts in written)
    figure.set_figheight(figure.get_figheight() + LINE * more)


def blank(axes: Axes) -> None:
    """Nothing but title and labels of a panel that has no data; at the left also the numbers, which are its row's."""
    axes.spines[:].set_visible(False)
    axes.tick_params(left=axes.get_subplotspec().is_first_col(), bottom=False, labelbottom=False)


def line_style(place: int) -> dict:
    """Distinct in colour and, for grey print, in marker and dashes too."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place // len(COLOURS) % len(LINES)],
    }


def facets(arms: dict[str, str], conditions: dict[str, str], **options: object) -> tuple[Figure, dict]:
    """A panel per arm and condition, both given with labels; returns the figure and axes by (arm, condition).

    Several of both: a row per arm, a column per condition. Otherwise: in reading order, three in a row.
    """
    pairs = [(arm, condition) for arm in arms for condition in conditions]
    if len(arms) > 1 and len(conditions) > 1:
        figure, axes = panels(len(arms), len(conditions), PAGE, 0.6 + 0.72 * len(arms), sharex="col", **options)
        for row, label in zip(axes, arms.values(), strict=True):
            unbroken = label.replace(" + ", "\N{NO-BREAK SPACE}+\N{NO-BREAK SPACE}")
            lines = textwrap.fill(unbroken, 20, break_long_words=False)
            row[0].set_ylabel(lines, rotation=0, ha="right", va="center")
        for top, label in zip(axes[0], conditions.values(), strict=True):
            top.set_title(wrapped(top, label))
        return figure, dict(zip(pairs, axes.flat, strict=True))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    width = COLUMN if columns == 1 else PAGE
    figure, axes = panels(rows, columns, width, 0.7 + (1.6 if columns == 1 else 1.3) * rows, sharex="col", **options)
    if len(pairs) > 1:
        for (arm, condition), panel in zip(pairs, axes.flat, strict=False):
            panel.set_title(wrapped(panel, arms[arm] if len(arms) > 1 else conditions[condition]))
    return figure, dict(zip(pairs, axes.flat, strict=False))


def finish(figure: Figure, used: Iterable[Axes], label: str, note: str = "") -> None:
    """What panels share: `label` below the lowest of each column, no empty panels, one legend with `note` above it."""
    used = list(used)
    for axes in list(figure.axes):
        if axes not in used:
            axes.remove()
    lowest = {axes.get_subplotspec().colspan.start: axes for axes in used}  # the last one of a column stays
    for axes in lowest.values():
        axes.set_xlabel(wrapped(axes, label))
        axes.tick_params(labelbottom=True)  # also where the panel below it is empty
    entries = {}
    for axes in used:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if len(entries) > 1 or note:
        width = figure.get_figwidth()
        title = textwrap.fill(note, int(LETTERS_PER_INCH * width), break_on_hyphens=False) or None
        columns = _legend_columns(list(entries), width)
        legend = figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, title=title)
        legend.get_title().set_multialignment("center")


def legend_height(names: Iterable[str], width: float) -> float:
    """Inches that `finish` needs for a legend of `names` in a figure of `width` inches."""
    names = list(names)
    return 0.1 + 0.14 * -(-len(names) // _legend_columns(names, width))


def _legend_columns(names: list[str], width: float) -> int:
    """The most columns that fit; matplotlib fills them one after the other."""
    lengths = np.array([len(name) for name in names])
    for columns in range(6, 1, -1):
        taken = sum(int(part.max(initial=0)) + 8 for part in np.array_split(lengths, columns))
        if taken <= LETTERS_PER_INCH * width:
            return columns
    return 1


def log_axis(axes: Axes, which: str) -> None:
    """A logarithmic axis with a few plain numbers on it, also over less than a decade."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    narrow = which == "x" and _columns(axes) >= NARROW
    steps = (1,) if high > 30 * low else (1, 2, 5) if high > 8 * low or narrow else (1, 2, 3, 5, 7)
    locator = OutermostLog if narrow else ticker.LogLocator  # where fewer than two are in view, all round ones
    axis.set_major_locator(locator(subs=steps, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


class _Outermost:
    """Of the numbers along an axis that a locator finds the first and the last."""

    def tick_values(self, low: float, high: float) -> np.ndarray:
        values = np.asarray(super().tick_values(low, high))
        inside = values[(values >= low) & (values <= high)]
        return inside[[0, -1]] if len(inside) else inside


class OutermostLinear(_Outermost, ticker.MaxNLocator):
    """The first and the last of the round numbers."""


class OutermostLog(_Outermost, ticker.LogLocator):
    """The first and the last of the numbers of a logarithmic axis."""


def _columns(axes: Axes) -> int:
    """How many panels are side by side."""
    return axes.get_subplotspec().get_gridspec().ncols


def wants_log(values: np.ndarray) -> bool:
    """Whether positive values differ by so much that a linear axis would flatten most of them."""
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() > 2.5 * values.min()


def outline(axes: Axes, shares: np.ndarray, label: str, **options: object) -> None:
    """A weight histogram, bin k from k to k + 1; the first, of weights that are zero, stands apart."""
    axes.stairs(shares[:1], [-ZERO_GAP, 1 - ZERO_GAP], label=label, **options)
    axes.stairs(shares[1:], np.arange(1, len(shares) + 1), **options)


def weight_axis(axes: Axes, edges: list[float | None]) -> None:
    """Ticks of a weight histogram whose bins are drawn equally wide, and a line at an equal share.

    `edges` as in a record: bin 0 holds weights of zero, bin 1 smaller ones than edges[2], None is infinity.
    """
    inner = np.array([edge for edge in edges[2:] if edge is not None and np.isfinite(edge)])
    ticks = np.array([tick for tick in TICKS if inner[0] <= tick <= inner[-1]])
    where = 2 + np.interp(np.log(ticks), np.log(inner), np.arange(len(inner)))
    axes.set_xticks([0.5 - ZERO_GAP, *where], ["0", *(f"{tick:g}" for tick in ticks)])
    axes.axvline(2 + np.interp(0, np.log(inner), np.arange(len(inner))), color="black", linestyle=":", linewidth=0.7)
    axes.locator_params(axis="y", nbins=3)
    axes.set_xlim(-ZERO_GAP - 0.5, len(edges) - 1)


def dots(axes: Axes, rows: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Rows of a dot plot, each given as its look's place and its values: mean with interval, small dots for values.

    A row whose mean lies far beyond most values, since a run diverged, would flatten the others: its
    mean is written at the edge instead. Returns the ends of all intervals that are drawn.
    """
    points, bars = [], []
    limit = far(np.concatenate([np.asarray(values, float) for _, values in rows] or [[]]))
    for row, (place, values) in enumerate(rows):
        if not len(values):
            continue
        mean, half = statistics.interval(values)
        points += [(value, row) for value in values if value <= limit]
        look = line_style(place)
        if mean > limit:
            axes.text(1, row, f"{mean:.1g} →", transform=axes.get_yaxis_transform(), ha="right", va="center",
                      fontsize=6, color=look["color"])  # fmt: skip
            continue
        axes.plot(mean, row, **look | {"linestyle": "none", "markersize": 2.6}, zorder=3)
        bars.append((row, mean - np.nan_to_num(half), mean + np.nan_to_num(half), look["color"]))
    if bars:
        places, lows, highs, colours = zip(*bars, strict=True)
        axes.hlines(places, lows, highs, colors=colours, linewidth=0.9, zorder=2)
    if points:
        small = {"linestyle": "none", "marker": ".", "markersize": 1.6, "alpha": 0.6}
        axes.plot(*zip(*points, strict=True), color=GREY, **small, zorder=2.5)
        (lowest, _), (highest, _) = min(points), max(points)
        if lowest == highest:  # else the numbers below would have too many digits
            axes.set_xlim(lowest - 0.5, lowest + 0.5)
    ruled(axes, len(rows))
    return np.asarray([end for _, low, high, _ in bars for end in (low, high)])


def far(values: np.ndarray) -> float:
    """From where on positive values lie far beyond most of them: thirty times their median."""
    finite = values[np.isfinite(values)]
    return 30 * float(np.median(finite)) if len(finite) and finite.min() > 0 else np.inf


def shades(axes: Axes, values: np.ndarray, columns: Sequence[str], most: float) -> None:
    """Numbers `(rows, columns)` on shades of blue above 0 and orange below, at full strength from `most` on."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("gain", [COLOURS[5], "#FFFFFF", COLOURS[6]])
    axes.imshow(values, cmap=colours, vmin=-most, vmax=most, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        axes.text(column, row, number(values[row, column], 1, signed=True), ha="center", va="center", fontsize=6)
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def boxes(axes: Axes, rows: Sequence[np.ndarray]) -> None:
    """A box plot of every row, with all its values as dots, spread so that they do not hide each other."""
    lines = {name: {"color": "black", "linewidth": 0.8} for name in ("boxprops", "whiskerprops", "capprops")}
    for row, values in enumerate(rows):
        if len(values):
            axes.boxplot(values, positions=[row], orientation="horizontal", widths=0.6, showfliers=False, **lines,
                         medianprops={"color": COLOURS[2], "linewidth": 1.2}, manage_ticks=False)  # fmt: skip
            aside = 0.36 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
            axes.plot(values, row + aside, linestyle="none", marker=".", markersize=3, color=COLOURS[1], alpha=0.8)
    ruled(axes, len(rows))


def ruled(axes: Axes, rows: int) -> None:
    """Every second row of a dot plot shaded, so that the eye finds the label."""
    for row in range(0, rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", linewidth=0, zorder=0)
    axes.tick_params(axis="y", length=0)
    if _columns(axes) < NARROWEST:
        axes.locator_params(axis="x", nbins=4 if _columns(axes) < NARROW else 2)
    else:
        axes.xaxis.set_major_locator(OutermostLinear(nbins=2, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
