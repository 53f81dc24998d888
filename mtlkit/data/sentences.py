"""Sentences with a tag for every word and labelled pairs of sentences: how they lie on disk, and how they are cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mtlkit.data.base import generator
from mtlkit.errors import MtlkitError, one_of

UPOS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
        "SYM", "VERB", "X")  # fmt: skip
IOB2 = ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")


@dataclass(frozen=True)
class Problem:
    """What is asked: labels in the order of their numbers, RLW's languages, and whether of pairs of sentences."""

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    pairs: bool


PROBLEMS = {
    "udpos": Problem(UPOS, ("en", "zh", "te", "vi"), pairs=False),
    "panx": Problem(IOB2, ("en", "zh", "de", "es"), pairs=False),
    "pawsx": Problem(("0", "1"), ("en", "zh", "de", "es"), pairs=True),
    "xnli": Problem(("contradiction", "entailment", "neutral"), ("en", "zh", "de", "es"), pairs=True),
}

UNTRANSLATED = "NS"
"""What PAWS-X has in place of some sentences."""

Example = tuple[tuple[str, ...], tuple[int, ...]]
"""Words and their tags, or two sentences and one label; labels by number."""

Pool = dict[str, list[Example]]
"""Examples of every language."""

Key = tuple[str, str]
"""A language and a text."""


def read(path: Path, problem: Problem) -> list[Example] | None:
    """The examples of one file; None for a test file whose first line has no label, as XTREME's.

    Tagged sentences have a word, a tab and a tag per line and a blank line after each; pairs two sentences and a label
    per line, with tabs. Of CoNLL-U the form and UPOS are taken, without spaces within words, as in XTREME; lines of
    several words at once (`1-2`) and of words that are not in the text (`1.1`) are left out. Departure: XTREME's
    scripts keep several words at once in place of their parts.

    Raises:
        MtlkitError: Anything else; names file and line.
    """
    conllu, number = path.suffix == ".conllu", {label: k for k, label in enumerate(problem.labels)}
    width = 10 if conllu else 3 if problem.pairs else 2
    examples: list[Example] = []
    words: list[str] = []
    tags: list[int] = []
    for at, line in enumerate([*_lines(path), ""], 1):
        if not line and words:
            examples.append((tuple(words), tuple(tags)))
            words, tags = [], []
        if not line or (conllu and line.startswith("#")):
            continue
        fields = line.split("\t")
        if len(fields) == width - 1 and path.name.startswith("test-") and not (examples or words):
            return None
        if len(fields) != width or "" in fields:
            raise MtlkitError(f"{path}, line {at}, has {sum(map(bool, fields))} fields that are not empty; expected "
                              f"are {width} with tabs between them.")  # fmt: skip
        if conllu and not fields[0].isdigit():
            continue
        *texts, label = (fields[1].replace(" ", "").replace("\u200c", ""), fields[3]) if conllu else fields
        if label not in number:
            one_of(f"the label in {path}, line {at},", label, number)
        if problem.pairs:
            examples.append((tuple(texts), (number[label],)))
        else:
            words += texts
            tags.append(number[label])
    if not examples:
        raise MtlkitError(f"{path} is empty; expected are the examples of one language.")
    return examples


def _lines(path: Path) -> list[str]:
    """Lines end at line feeds alone: words may hold other characters that Python takes for the end of a line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MtlkitError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MtlkitError(f"{path}, line {line}, is not UTF-8, which is expected.") from None


def divide(pool: Pool, shares: Sequence[float], pairs: bool, seed: int, purpose: str) -> list[Pool]:
    """Parts of about these shares, in random order; parallel examples of all languages go to the same part.

    Examples with a text in common stay together: a tagged sentence as a whole, either sentence of a pair. Pairs are
    parallel where every language has as many.

    Raises:
        MtlkitError: A part is empty.
    """
    parallel = pairs and len({len(examples) for examples in pool.values()}) == 1
    if parallel:
        rows = [[(code, text) for code, (texts, _) in zip(pool, one, strict=True) for text in texts]
                for one in zip(*pool.values(), strict=True)]  # fmt: skip
        cuts = dict.fromkeys(pool, _parts(rows, shares, generator(seed, purpose)))
    else:
        keys = {code: [[(code, text) for text in (texts if pairs else (" ".join(texts),))] for texts, _ in examples]
                for code, examples in pool.items()}  # fmt: skip
        cuts = {code: _parts(rows, shares, generator(seed, f"{purpose} {code}")) for code, rows in keys.items()}
    for code, parts in cuts.items():
        if not all(map(len, parts)):
            raise MtlkitError(f"{len(pool[code])} examples of language {code!r} are too few to be cut into "
                              f"{len(shares)} parts.")  # fmt: skip
    return [{code: [pool[code][at] for at in cuts[code][k]] for code in pool} for k in range(len(shares))]


def _parts(rows: Sequence[Sequence[Key]], shares: Sequence[float], draw: torch.Generator) -> list[list[int]]:
    """Rows in random order, cut by `shares`; rows with a text in common, or linked by others, stay together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number: dict[Key, int] = {}
    links = [(row, len(rows) + number.setdefault(key, len(number)))
             for row, keys in enumerate(rows) for key in keys if key[1] != UNTRANSLATED]  # fmt: skip
    size = len(rows) + len(number)
    graph = coo_matrix((np.ones(len(links)), np.array(links).T), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(rows)]
    place = torch.randperm(len(rows), generator=draw).numpy()[component]  # there are no more components than rows
    order = np.argsort(place, kind="stable")
    ends = [min(round(len(rows) * sum(shares[: k + 1])), len(rows) - 1) for k in range(len(shares) - 1)]
    cuts = np.searchsorted(place[order], place[order][ends])
    return [part.tolist() for part in np.split(order, cuts)]
