"""Four problems of XTREME, one task per language: tags of words (udpos, panx) and pairs of sentences (pawsx, xnli).

Hu et al. 2020 (XTREME), arXiv 2003.11080; Lin et al. 2022 (RLW), which trains four languages of each together. Parts of
speech: Nivre et al. 2018 (Universal Dependencies 2.5); names: Pan et al. 2017 (WikiAnn, PAN-X); paraphrases: Yang et
al. 2019 (PAWS-X); inference: Conneau et al. 2018 (XNLI).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlkit import paths
from mtlkit.data import grammar
from mtlkit.data.base import Dataset, Samples, checksum, sizes
from mtlkit.data.sentences import IOB2, PROBLEMS, UPOS, Example, Pool, divide, read
from mtlkit.data.separate import Separate
from mtlkit.data.word_pieces import IGNORE, OfEncoder, Sequences, Tokenizer, WordPieces, padded, paired, tagged
from mtlkit.errors import MtlkitError, one_of

URL = "https://github.com/google-research/xtreme"
STAND_IN = {"train": 1400, "dev": 200, "test": 400}


def load(
    seed: int,
    *,
    problem: str = "udpos",
    source: str = "auto",
    data_root: str = "",
    languages: str = "",
    main: str = "",
    train: int = 0,
    held_out: int = 0,
    max_length: int = 128,
    vocabulary: int = 8000,
    encoder: str = "",
) -> Dataset:
    """Sets of word pieces (N, L), and targets (N, L) with -100 where there is no label; for pairs pieces and segments
    (N, 2, L), and targets (N,). L is the same in all, at most `max_length`.

    Files are `xtreme/<problem>/{train,dev,test}-<language>.tsv` below `data_root`, as XTREME's scripts write them; for
    udpos also Universal Dependencies' `<language>_*-ud-{train,dev,test}.conllu`, in any folder there. Every seed draws
    a seventh of train as reference set; tuning is dev. Where test is missing or has no labels, tuning and test are the
    halves of dev; where train is missing, dev alone is cut, into 70 % for train, 10 % for dev and 20 % for test. Cuts
    keep examples that share a sentence together, in parallel files across all languages.

    Facts besides the usual: `labels` in the order of their numbers; `pieces`, the size of the vocabulary; `length`, L;
    `too_long`, examples by language of more than `max_length` pieces. Only pairs have label groups.

    Departures from RLW: 17 tags for udpos, where its code adds an unused 18th.

    Args:
        problem: `udpos`, `panx`, `pawsx` or `xnli`.
        source: `real`; `builtin`, toy languages (`mtlkit.data.grammar`) under the names of those whose typology they
            follow; `auto`, real where it is found, else the toy languages, which a line on stderr says.
        languages: Two-letter codes with commas; empty for RLW's.
        main: The language of the main task; empty for the first.
        train: At most so many training examples per language; 0 for all.
        held_out: At most so many in each other set; 0 for all.
        max_length: Pieces, from 8. Longer sentences with tags go on as a further sample; longer pairs are shortened.
        vocabulary: Size of the word pieces, learnt from the training examples.
        encoder: Takes the pieces of a published encoder instead, by its name in Hugging Face's local cache.

    Raises:
        MtlkitError: A setting outside these, or missing or faulty files.
    """
    one_of("problem", problem, PROBLEMS)
    one_of("source", source, ("auto", "real", "builtin"))
    kind = PROBLEMS[problem]
    order = _order(languages or ",".join(kind.languages), main)
    for name, value, least in (("train", train, 0), ("held_out", held_out, 0), ("max_length", max_length, 8)):
        if value < least:
            raise MtlkitError(f"{name} is {value}, but it has to be a whole number from {least}.")
    variant, pools = _source(source, paths.data_root(data_root), problem, order)
    sets, told = _cut(pools, seed, kind.pairs)
    for name, examples in sets.items():
        most = train if name == "train" else held_out
        sets[name] = {language: rows[: most or None] for language, rows in examples.items()}
    texts = (text for rows in sets["train"].values() for texts, _ in rows for text in texts)
    tokenizer: Tokenizer = OfEncoder(encoder) if encoder else WordPieces.learn(texts, vocabulary)
    encoded = {name: {language: _encode(tokenizer, rows, max_length, kind.pairs) for language, rows in examples.items()}
               for name, examples in sets.items()}  # fmt: skip
    length = max(len(pieces) for of in encoded.values() for rows, _ in of.values() for (pieces, _), _ in rows)
    splits = {name: Separate([_samples(tokenizer, of[language][0], length, kind.pairs) for language in order])
              for name, of in encoded.items()}  # fmt: skip
    facts = {
        "problem": problem,
        "sizes": sizes(**splits),
        "sizes_by_task": {name: list(of.sizes) for name, of in splits.items()},
        "split": told,
        "labels": list(kind.labels),
        "pieces": tokenizer.size,
        "length": length,
        "too_long": {language: sum(of[language][1] for of in encoded.values()) for language in order},
        "block": None,
        "wrong_main_labels": 0,
        "noise": "none",
    }
    content = repr([(split, sorted(pool.items())) for split, pool in pools.items()])
    source_checksum = checksum(np.frombuffer(content.encode(), np.uint8))
    return Dataset("xtreme", variant, source_checksum, order, "multiclass" if kind.pairs else "tagging", **splits,
                   facts=facts)  # fmt: skip


def prepare(data_root: str = "") -> Path:
    """Read all files that are there and check them; returns their folder. XTREME's own scripts download them.

    Raises:
        MtlkitError: The first fault, or there are no files.
    """
    folder = paths.data_root(data_root) / "xtreme"
    found = [(path, problem) for problem in PROBLEMS for path in sorted((folder / problem).rglob("*"))
             if path.suffix in (".tsv", ".conllu")]  # fmt: skip
    if not found:
        raise MtlkitError(_missing(folder, " or ".join(PROBLEMS)))
    for path, problem in found:
        read(path, PROBLEMS[problem])
    return folder


def status(data_root: str = "") -> dict[str, Any]:
    """Which problems are below the data root, and how to get them."""
    folder = paths.data_root(data_root) / "xtreme"
    there = [problem for problem in PROBLEMS if (folder / problem).is_dir()]
    return {
        "name": "xtreme",
        "found": bool(there),
        "variant": ", ".join(f"xtreme-{problem}" for problem in there) or None,
        "path": str(folder) if there else None,
        "problem": None,
        "expected": f"folders {', '.join(f'xtreme/{problem}' for problem in PROBLEMS)}",
        "source_url": URL,
        "licence": "UD treebanks CC BY-SA, parts non-commercial; XNLI CC BY-NC 4.0; PAWS-X free with credit to Google",
        "how_to_prepare": f"XTREME's scripts download it; copy its folders {', '.join(PROBLEMS)} to {folder}",
    }


def _order(languages: str, main: str) -> list[str]:
    """Codes of the languages, the main one first."""
    codes = [code.strip() for code in languages.split(",")]
    if len(set(codes)) < len(codes) or not all(code.isalpha() for code in codes):
        raise MtlkitError(f"languages is {languages!r}; expected are different codes with commas, such as en,zh.")
    main = main or codes[0]
    one_of("main", main, codes)
    return [main, *(code for code in codes if code != main)]


def _source(source: str, root: Path, problem: str, languages: Sequence[str]) -> tuple[str, dict[str, Pool]]:
    """Variant, and the examples of train, dev and test, as far as there are any with labels for every language."""
    folder, kind = root / "xtreme" / problem, PROBLEMS[problem]
    if source == "real" or (source == "auto" and folder.is_dir()):
        files = {(split, code): _files(folder, problem, split, code) for split in STAND_IN for code in languages}
        for code in languages:
            if not files["dev", code]:
                raise MtlkitError(_missing(root / "xtreme", f"{problem}/dev-{code}.tsv"))
        read_ = {key: [read(path, kind) for path in of] for key, of in files.items()}
        whole = [split for split in STAND_IN
                 if all(read_[split, code] and None not in read_[split, code] for code in languages)]  # fmt: skip
        pools = {split: {code: [one for part in read_[split, code] for one in part] for code in languages}
                 for split in whole}  # fmt: skip
        if "dev" not in pools:
            raise MtlkitError(f"{folder} has dev files without labels; expected is a label on every line.")
        parts = "" if len(whole) == len(STAND_IN) else "-train-dev" if "train" in whole else "-dev"
        conllu = any(path.suffix == ".conllu" for of in files.values() for path in of)
        return f"xtreme-{problem}{'-conllu' if conllu else ''}{parts}", pools
    if source == "auto":
        print(f"NOTE: XTREME's {problem} is not below {root}: using TOY LANGUAGES as a stand-in (source: auto). The "
              f"scripts of {URL} download the real data.", file=sys.stderr)  # fmt: skip
    return f"toy-languages-{problem}", {split: {code: _toy(problem, code, split, count) for code in languages}
                                        for split, count in STAND_IN.items()}  # fmt: skip


def _files(folder: Path, problem: str, split: str, language: str) -> list[Path]:
    path = folder / f"{split}-{language}.tsv"
    if path.is_file() or problem != "udpos":
        return [path] * path.is_file()
    return sorted(folder.rglob(f"{language}_*-ud-{split}.conllu"))


def _missing(folder: Path, what: str) -> str:
    return (f"XTREME's {what} is not below {folder} (in the data root, parameter data_root or environment variable "
            f"MTLKIT_DATA): expected are <problem>/{{train,dev,test}}-<language>.tsv, as the scripts of {URL} write "
            "them; source: builtin does without.")  # fmt: skip


def _toy(problem: str, code: str, split: str, count: int) -> list[Example]:
    if PROBLEMS[problem].pairs:
        return [((first, second), (label,)) for first, second, label in grammar.pairs(problem, code, split, count)]
    column, labels = (1, UPOS) if problem == "udpos" else (2, IOB2)
    return [(tuple(word[0] for word in sentence), tuple(labels.index(word[column]) for word in sentence))
            for sentence in grammar.tagged(code, split, count)]  # fmt: skip


def _cut(pools: Mapping[str, Pool], seed: int, pairs: bool) -> tuple[dict[str, Pool], str]:
    """The four sets, shuffled, and how they were cut, in words; tuning and test are the same for every seed."""
    pool, dev = pools.get("train"), pools["dev"]
    if pool is None:
        pool, tuning, test = divide(dev, (0.7, 0.1, 0.2), pairs, 0, "dev")
        told = "dev is cut: 60 % train, 10 % reference, 10 % tuning, 20 % test"
    elif "test" not in pools:
        tuning, test = divide(dev, (0.5, 0.5), pairs, 0, "dev")
        told = "a seventh of train is the reference set; the halves of dev are tuning and test"
    else:
        (tuning,), (test,) = (divide(pools[name], (1.0,), pairs, 0, name) for name in ("dev", "test"))
        told = "a seventh of train is the reference set; dev is tuning"
    train, reference = divide(pool, (6 / 7, 1 / 7), pairs, seed, "split")
    return {"train": train, "reference": reference, "tuning": tuning, "test": test}, told


def _encode(tokenizer: Tokenizer, examples: Sequence[Example], longest: int,
            pairs: bool) -> tuple[list[tuple[Sequences, int]], int]:  # fmt: skip
    """Every sample's sequences and its label (0 for tags: they are a sequence), and how many examples were too long."""
    rows: list[tuple[Sequences, int]] = []
    over = 0
    for texts, labels in examples:
        if pairs:
            one, shortened = paired(tokenizer, *texts, longest)
            rows.append((one, labels[0]))
            over += shortened
        else:
            parts = list(tagged(tokenizer, texts, labels, longest))
            rows += [(part, 0) for part in parts]
            over += len(parts) > 1
    return rows, over


def _samples(tokenizer: Tokenizer, rows: Sequence[tuple[Sequences, int]], length: int, pairs: bool) -> Samples:
    pieces = padded([pieces for (pieces, _), _ in rows], length, tokenizer.pad)
    beside = padded([beside for (_, beside), _ in rows], length, 0 if pairs else IGNORE)
    if not pairs:
        return Samples(pieces, beside[None])
    labels = torch.tensor([[label for _, label in rows]])
    return Samples(torch.stack([pieces, beside], 1), labels, labels.clone())
