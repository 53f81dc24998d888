"""The toy languages: one meaning in many words and orders."""

from itertools import pairwise

import pytest

from mtlkit.data.grammar import LANGUAGES, Clause, Noun, pairs, say, tagged
from mtlkit.data.sentences import IOB2, UPOS
from mtlkit.errors import MtlkitError

CLAUSE = Clause(Noun(1, adjective=3), 4, Noun(2), adverb=0, place=Noun(3))


@pytest.mark.parametrize("code", LANGUAGES)
def test_word_order(code: str) -> None:
    language, kinds = LANGUAGES[code], [kind for _, kind, _ in say(LANGUAGES[code], CLAUSE)]
    assert sorted(kinds) == sorted(["DET", "ADJ", "NOUN", "VERB", "DET", "NOUN", "ADP", "DET", "NOUN", "ADV", "PUNCT"])
    assert (kinds.index("ADJ") < kinds.index("NOUN", kinds.index("ADJ") - 1)) == language.adjective_first
    assert {"S": kinds[0] == "DET", "V": kinds[0] == "VERB"}[language.order[0]]
    assert kinds.index("ADP") == (kinds.index("ADV") - 3 if language.preposition else kinds.index("ADV") - 1)
    passive = say(language, Clause(CLAUSE.subject, 4, CLAUSE.object, passive=True))
    assert [kind for _, kind, _ in passive].count("AUX") == 1


def test_languages_share_meanings_and_no_words() -> None:
    said = {code: say(language, CLAUSE) for code, language in LANGUAGES.items()}
    assert len({tuple(word for word, _, _ in words) for words in said.values()}) == len(LANGUAGES)
    assert len({tuple(sorted(kind for _, kind, _ in words)) for words in said.values()}) == 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_tags_are_those_of_the_problems(code: str) -> None:
    sentences = tagged(code, "train", 200)
    assert sentences == tagged(code, "train", 300)[:200] and sentences != tagged(code, "test", 200)
    for sentence in sentences:
        assert all(kind in UPOS and name in IOB2 for _, kind, name in sentence)
        names = ["O", *(name for _, _, name in sentence)]
        for before, name in pairwise(names):
            assert not name.startswith("I-") or before[1:] == name[1:], "a name begins with B-"
    assert {name for sentence in sentences for _, _, name in sentence} == set(IOB2) - {"I-LOC"}


def test_some_words_need_their_context() -> None:
    kinds: dict[str, set[str]] = {}
    for sentence in tagged("vi", "train", 500):
        for word, kind, _ in sentence:
            kinds.setdefault(word, set()).add(kind)
    assert {"NOUN", "VERB"} in kinds.values() and {"ADJ", "VERB"} in kinds.values()


@pytest.mark.parametrize("problem", ["pawsx", "xnli"])
def test_pairs_are_parallel_and_balanced(problem: str) -> None:
    said = {code: pairs(problem, code, "train", 600) for code in LANGUAGES}
    labels = {code: [label for *_, label in found] for code, found in said.items()}
    assert len(set(map(tuple, labels.values()))) == 1
    classes = 2 if problem == "pawsx" else 3
    assert all(labels["en"].count(k) == pytest.approx(600 / classes, abs=60) for k in range(classes))
    assert not {first for first, *_ in said["en"]} & {first for first, *_ in said["es"]}


def test_an_unknown_language() -> None:
    with pytest.raises(MtlkitError, match="language is 'fr', which is not one of en, zh"):
        tagged("fr", "train", 1)
