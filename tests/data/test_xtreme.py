"""XTREME's problems: sets, cuts, tensors; on the toy languages and on small trees as XTREME writes them."""

from pathlib import Path

import pytest
import torch

from mtlkit.data import grammar, xtreme
from mtlkit.data.base import Samples
from mtlkit.data.sentences import PROBLEMS, UNTRANSLATED, Pool, divide
from mtlkit.data.word_pieces import IGNORE, PAD, SEPARATOR
from mtlkit.errors import MtlkitError

SETS = ("train", "reference", "tuning", "test")


def builtin(seed: int = 0, **options: object):
    settings = {"source": "builtin", "train": 60, "held_out": 30, "vocabulary": 400}
    return xtreme.load(seed, **(settings | options))


def tree(root: Path, problem: str, splits: tuple[str, ...], languages: str = "en,zh", count: int = 40) -> Path:
    """Files as XTREME writes them, from the toy languages."""
    folder = root / "xtreme" / problem
    folder.mkdir(parents=True)
    for code in languages.split(","):
        for split in splits:
            if PROBLEMS[problem].pairs:
                labels, said = PROBLEMS[problem].labels, grammar.pairs(problem, code, split, count)
                rows = [f"{first}\t{second}\t{labels[k]}\n" for first, second, k in said]
            else:
                column = 1 if problem == "udpos" else 2
                sentences = grammar.tagged(code, split, count)
                rows = ["".join(f"{word[0]}\t{word[column]}\n" for word in sentence) + "\n" for sentence in sentences]
            (folder / f"{split}-{code}.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


def real(root: Path, seed: int = 0, **options: object):
    settings = {"source": "real", "data_root": str(root), "languages": "en,zh", "vocabulary": 400}
    return xtreme.load(seed, **(settings | options))


def rows(samples: Samples) -> set[tuple[int, ...]]:
    return {tuple(row) for row in samples.inputs.flatten(1).tolist()}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_shapes(problem: str) -> None:
    data = builtin(problem=problem)
    pairs, length = PROBLEMS[problem].pairs, data.facts["length"]
    assert data.task_names == list(PROBLEMS[problem].languages) and data.variant == f"toy-languages-{problem}"
    assert data.kind == ("multiclass" if pairs else "tagging") and data.name == "xtreme"
    assert data.facts["sizes"] == {"train": 60, "reference": 30, "tuning": 30, "test": 30}
    longest = 0
    for name in SETS:
        for n, part in zip(data.facts["sizes_by_task"][name], getattr(data, name).parts, strict=True):
            assert part.inputs.shape == ((n, 2, length) if pairs else (n, length)) and part.inputs.dtype == torch.int64
            assert part.targets.shape == ((1, n) if pairs else (1, n, length))
            assert part.inputs.min() >= 0 and part.inputs.max() < data.facts["pieces"] <= 400
            pieces = part.inputs[:, 0] if pairs else part.inputs
            there = pieces != PAD
            longest = max(longest, int(there.sum(1).max()))
            assert (pieces == SEPARATOR).sum(1).eq(2 if pairs else 1).all()
            if pairs:
                assert torch.equal(part.groups, part.targets)
            else:
                labelled = part.targets[0] != IGNORE
                assert labelled.any(1).all() and not (labelled & ~there).any() and not labelled[:, 0].any()
    assert longest == length
    batch = data.train.take([torch.arange(5)] * 4)
    assert len(batch.inputs) == len(batch.targets) == 4 and batch.mass.shape == (4, 5)


@pytest.mark.parametrize("problem", ["udpos", "pawsx"])
def test_a_seed_changes_training_and_reference_alone(problem: str) -> None:
    # A published vocabulary would be the same for every seed; a learnt one is not, so words are compared.
    pools = {"train": toy(problem, "train"), "dev": toy(problem, "dev"), "test": toy(problem, "test")}
    (first, _), (second, _), (again, _) = (xtreme._cut(pools, seed, PROBLEMS[problem].pairs) for seed in (0, 1, 0))
    assert first == again
    for name in SETS:
        assert (first[name] == second[name]) == (name in ("tuning", "test"))


def toy(problem: str, split: str, count: int = 70) -> Pool:
    return {code: xtreme._toy(problem, code, split, count) for code in ("en", "zh")}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    ("splits", "shares"),
    [
        (("train", "dev", "test"), (60, 10, 70, 70)),
        (("train", "dev"), (60, 10, 35, 35)),
        (("dev",), (42, 7, 7, 14)),
    ],
)
def test_cuts(problem: str, splits: tuple[str, ...], shares: tuple[int, ...]) -> None:
    sets, told = xtreme._cut({split: toy(problem, split) for split in splits}, 3, PROBLEMS[problem].pairs)
    assert list(sets) == list(SETS) and told
    for code in ("en", "zh"):
        assert [len(sets[name][code]) for name in SETS] == pytest.approx(shares, abs=2)
        texts = [{texts for texts, _ in sets[name][code]} for name in SETS]
        assert all(not texts[a] & texts[b] for a in range(4) for b in range(a)), "no two sets share an example"
        if len(splits) == 1:
            assert sum(len(sets[name][code]) for name in SETS) == 70


def test_parallel_pairs_and_pairs_with_a_common_sentence_stay_together() -> None:
    # If what PAWS-X has for untranslated sentences linked pairs, all would be in one part, and this one not be cut.
    pool = {code: [((f"{code} {k // 3}", f"{code} other {k}"), (k % 2,)) for k in range(90)] for code in ("en", "de")}
    for k in range(0, 90, 3):
        pool["de"][k] = ((f"de {k // 3}", UNTRANSLATED), (0,))
    pool["de"][61] = (("de linked", "de other 61"), (0,))
    pool["de"][89] = (("de linked", "de other 89"), (1,))
    parts = divide(pool, (0.5, 0.3, 0.2), True, 0, "test")
    assert [len(part["en"]) for part in parts] == pytest.approx([45, 27, 18], abs=6)
    where = {}
    for k, part in enumerate(parts):
        numbers = {code: [int(texts[1].split()[-1]) for texts, _ in part[code] if texts[1] != "NS"] for code in pool}
        assert set(numbers["de"]) <= set(numbers["en"]) and len(part["en"]) == len(part["de"])
        where |= dict.fromkeys(numbers["en"], k)
    assert all(where[k] == where[k // 3 * 3] for k in range(90)), "one premise, one set"
    assert where[61] == where[89], "linked in one language alone"


def test_pairs_of_unequal_files_are_cut_by_language(tmp_path: Path) -> None:
    folder = tree(tmp_path, "pawsx", ("dev",))
    lines = (folder / "dev-zh.tsv").read_text().splitlines(keepends=True)
    (folder / "dev-zh.tsv").write_text("".join(lines[:20]))
    sizes = real(tmp_path, problem="pawsx").facts["sizes_by_task"]
    assert [sum(of) for of in zip(*sizes.values(), strict=True)] == [40, 20]


def test_files_and_variants(tmp_path: Path) -> None:
    folder = tree(tmp_path, "udpos", ("train", "dev", "test"))
    data = real(tmp_path, main="zh", train=11, held_out=5)
    assert data.variant == "xtreme-udpos" and data.task_names == ["zh", "en"]
    assert data.facts["sizes"] == {"train": 11, "reference": 5, "tuning": 5, "test": 5}
    assert real(tmp_path, languages="en").task_names == ["en"]
    assert real(tmp_path).checksum == data.checksum, "whichever language is the main one"
    unlabelled = "".join(line.split("\t")[0].rstrip("\n") + "\n" for line in (folder / "test-zh.tsv").open())
    (folder / "test-zh.tsv").write_text(unlabelled)
    halved = real(tmp_path)
    assert halved.variant == "xtreme-udpos-train-dev" and halved.checksum != data.checksum
    for path in folder.glob("train-*"):
        path.unlink()
    assert real(tmp_path).variant == "xtreme-udpos-dev"
    (folder / "dev-en.tsv").unlink()
    with pytest.raises(MtlkitError, match=r"udpos/dev-en.tsv is not below .*source: builtin does without"):
        real(tmp_path)


def test_universal_dependencies_of_several_treebanks(tmp_path: Path) -> None:
    for bank, word in (("EWT", "ox"), ("GUM", "ax")):
        folder = tmp_path / "xtreme" / "udpos" / f"UD_English-{bank}"
        folder.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            text = "".join(f"1\t{word}{k}\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n" for k in range(14))
            (folder / f"en_{bank.lower()}-ud-{split}.conllu").write_text(text)
    data = real(tmp_path, languages="en")
    assert data.variant == "xtreme-udpos-conllu"
    assert data.facts["sizes"] == {"train": 24, "reference": 4, "tuning": 28, "test": 28}


def test_long_sentences_are_counted_and_lose_no_label() -> None:
    data, short = builtin(problem="udpos"), builtin(problem="udpos", max_length=8)
    assert not any(data.facts["too_long"].values()) and all(short.facts["too_long"].values())
    assert short.facts["length"] == 8 and len(short.train) > len(data.train)
    for one, other in zip(data.test.parts, short.test.parts, strict=True):
        assert torch.equal(one.targets[one.targets != IGNORE], other.targets[other.targets != IGNORE])
    pairs = builtin(problem="xnli", max_length=12)
    assert pairs.facts["length"] == 12 and all(pairs.facts["too_long"].values())


def test_the_word_pieces_come_from_the_training_text_alone() -> None:
    all_, few = builtin(problem="panx", held_out=0), builtin(problem="panx")
    assert torch.equal(all_.train.parts[0].inputs[:, :19], few.train.parts[0].inputs[:, :19])
    assert all_.facts["pieces"] == few.facts["pieces"]


def test_auto_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = {"source": "auto", "train": 20, "held_out": 9}
    assert real(tmp_path, **settings).variant == "toy-languages-udpos"
    assert "using TOY LANGUAGES as a stand-in" in capsys.readouterr().err
    tree(tmp_path, "udpos", ("train", "dev", "test"))
    assert real(tmp_path, **settings).variant == "xtreme-udpos"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": "udpo"}, "problem is 'udpo'.*did you mean 'udpos'"),
        ({"source": "fake"}, "source is 'fake'"),
        ({"languages": "en,,zh"}, "languages is 'en,,zh'; expected are different codes"),
        ({"languages": "en,en"}, "expected are different codes"),
        ({"languages": "en,fr"}, "language is 'fr', which is not one of"),
        ({"main": "de"}, "main is 'de', which is not one of en, zh, te, vi"),
        ({"train": -1}, "train is -1"),
        ({"held_out": -5}, "held_out is -5"),
        ({"max_length": 7}, "max_length is 7, but it has to be a whole number from 8"),
        ({"vocabulary": 3}, "vocabulary is 3"),
    ],
)
def test_bad_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(MtlkitError, match=message):
        builtin(**options)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_examples(tmp_path: Path, count: int) -> None:
    tree(tmp_path, "pawsx", ("dev",), count=count)
    with pytest.raises(MtlkitError, match="examples of language 'en' are too few to be cut"):
        real(tmp_path, problem="pawsx")


def test_status_and_prepare(tmp_path: Path) -> None:
    assert not xtreme.status(str(tmp_path))["found"]
    with pytest.raises(MtlkitError, match="or xnli is not below"):
        xtreme.prepare(str(tmp_path))
    folder = tree(tmp_path, "panx", ("train", "dev"))
    assert xtreme.status(str(tmp_path))["variant"] == "xtreme-panx"
    assert xtreme.prepare(str(tmp_path)) == tmp_path / "xtreme"
    (folder / "train-en.tsv").write_text("a\tB-MISC\n")
    with pytest.raises(MtlkitError, match=r"train-en.tsv, line 1, is 'B-MISC'"):
        xtreme.prepare(str(tmp_path))
