"""Labelled text: what is read, and the sentence that every fault ends in."""

from pathlib import Path

import pytest

from mtlkit.data.sentences import IOB2, PROBLEMS, UPOS, read
from mtlkit.errors import MtlkitError

CONLLU = """# sent_id = 1
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3\ta l\ta\tADP\t_\t_\t4\tcase\t_\t_
3.1\tnada\t_\tNOUN\t_\t_\t_\t_\t_\t_
4\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\t_

1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def write(folder: Path, content: str | bytes, name: str = "dev-en.tsv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_tags(tmp_path: Path) -> None:
    path = write(tmp_path, "Al\tPROPN\n-\tPUNCT\n\n\n#\tSYM\n\u2028\tX")
    propn, punct, sym, x = map(UPOS.index, ("PROPN", "PUNCT", "SYM", "X"))
    expected = [(("Al", "-"), (propn, punct)), (("#", "\u2028"), (sym, x))]
    assert read(path, PROBLEMS["udpos"]) == expected
    assert read(write(tmp_path, path.read_bytes().replace(b"\n", b"\r\n")), PROBLEMS["udpos"]) == expected
    assert read(write(tmp_path, "Anton\tB-PER\nR\tI-PER\n\n"), PROBLEMS["panx"]) == [(("Anton", "R"), (5, 6))]
    assert len(UPOS) == len(set(UPOS)) == 17 and len(IOB2) == 7


def test_pairs(tmp_path: Path) -> None:
    path = write(tmp_path, "He left.\tHe stayed.\tcontradiction\nSi.\tNo.\tneutral\n")
    assert read(path, PROBLEMS["xnli"]) == [(("He left.", "He stayed."), (0,)), (("Si.", "No."), (2,))]
    assert read(write(tmp_path, "a\tb\t1\n"), PROBLEMS["pawsx"]) == [(("a", "b"), (1,))]


def test_universal_dependencies(tmp_path: Path) -> None:
    found = read(write(tmp_path, CONLLU, "es_gsd-ud-dev.conllu"), PROBLEMS["udpos"])
    assert [words for words, _ in found] == [("vamos", "nos", "al", "mar"), ("#",)]
    assert [[UPOS[tag] for tag in tags] for _, tags in found] == [["VERB", "PRON", "ADP", "NOUN"], ["SYM"]]


def test_a_test_file_without_labels_is_none(tmp_path: Path) -> None:
    assert read(write(tmp_path, "Al\n-\n\n", "test-en.tsv"), PROBLEMS["panx"]) is None
    assert read(write(tmp_path, "a\tb\n", "test-en.tsv"), PROBLEMS["pawsx"]) is None


@pytest.mark.parametrize(
    ("problem", "content", "name", "message"),
    [
        ("udpos", "Al\tPROPN\nox\tNOUNS\n", "dev-en.tsv", r"dev-en.tsv, line 2, is 'NOUNS'.*mean 'NOUN'"),
        ("panx", "Al\tPROPN\n", "dev-en.tsv", r"line 1, is 'PROPN', which is not one of O, B-LOC"),
        ("udpos", "Al\tPROPN\n\nox\n", "dev-en.tsv", r"line 3, has 1 fields that are not empty; expected are 2"),
        ("udpos", "Al\n", "train-en.tsv", r"line 1, has 1 fields"),
        ("udpos", "\tX\n", "dev-en.tsv", r"line 1, has 1 fields that are not empty"),
        ("udpos", "a\tX\tX\n", "dev-en.tsv", r"line 1, has 3 fields"),
        ("xnli", "a\tb\tneutral\na\tb\n", "dev-en.tsv", r"line 2, has 2 fields that are not empty; expected are 3"),
        ("pawsx", "a\tb\t2\n", "dev-en.tsv", r"line 1, is '2', which is not one of 0, 1"),
        ("pawsx", "", "dev-en.tsv", r"dev-en.tsv is empty"),
        ("udpos", "\n\n", "dev-en.tsv", r"is empty"),
        ("udpos", b"a\tX\n\xff\tX\n", "dev-en.tsv", r"line 2, is not UTF-8"),
        ("udpos", CONLLU.replace("mar\tNOUN", "mar\t_"), "a.conllu", r"line 8, is '_'"),
        ("udpos", CONLLU.replace("\tobl", ""), "a.conllu", r"line 8, has 9 fields"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, problem: str, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(MtlkitError, match=message):
        read(write(tmp_path, content, name), PROBLEMS[problem])


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MtlkitError, match="cannot be read"):
        read(tmp_path, PROBLEMS["udpos"])
