"""Word pieces: splitting, learning, the greedy cut, alignment with labels, pairs."""

from itertools import pairwise

import pytest

from mtlkit.data import word_pieces
from mtlkit.data.word_pieces import FIRST, IGNORE, PAD, SEPARATOR, SPECIAL, UNKNOWN, WordPieces, padded, paired, tagged
from mtlkit.errors import MtlkitError

TEXTS = ["low lower lowest", "new newer newest", "wide wider widest"] * 3


def shown(pieces: WordPieces, text: str) -> list[str]:
    return [pieces.pieces[k] for k in pieces.encode(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop.", ["don", "'", "t", "stop", "."]),
        ("看似簡單，ok", ["看", "似", "簡", "單", "，", "ok"]),
        ("నవ్వరటండి వెళ్తున్నారు", ["నవ్వరటండి", "వెళ్తున్నారు"]),  # marks stay with their letter
        ("a\u00a0b\tc\u3000d", ["a", "b", "c", "d"]),
        ("so\u00adft\u200c", ["soft"]),
        ("$5 + 3", ["$", "5", "+", "3"]),
        ("\u200c", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert word_pieces.split(text) == words


def test_single_characters_come_by_frequency_and_merges_after_them() -> None:
    pieces = WordPieces.learn(["aab aab ab c"], 100)
    assert tuple(pieces.pieces[:4]) == SPECIAL and pieces.size == len(pieces.pieces)
    assert pieces.pieces[4:8] == ["##b", "a", "##a", "c"]
    assert pieces.pieces[8:] == ["##ab", "aab"], "twice each; what is seen once is not merged"


def test_merges_against_the_obvious_loop() -> None:
    words = [([w[0], *("##" + c for c in w[1:])], TEXTS.count(text)) for text in TEXTS[:3] for w in text.split()]
    found: list[str] = []
    while True:
        pairs: dict[tuple[str, str], int] = {}
        for symbols, count in words:
            for pair in pairwise(symbols):
                pairs[pair] = pairs.get(pair, 0) + count
        if not pairs:
            break
        a, b = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(a + b.removeprefix("##"))
        for symbols, _ in words:
            for k in range(len(symbols) - 1, 0, -1):
                if (symbols[k - 1], symbols[k]) == (a, b):
                    symbols[k - 1 : k + 1] = [found[-1]]
    learnt = WordPieces.learn(TEXTS, 1000).pieces[len(SPECIAL) :]
    assert [piece for piece in learnt if len(piece.removeprefix("##")) > 1] == list(dict.fromkeys(found))


def test_the_size_is_kept_and_half_of_it_left_for_merges() -> None:
    for size in (6, 12, 20, 30):
        pieces = WordPieces.learn(TEXTS, size).pieces[len(SPECIAL) :]
        assert len(pieces) <= size - 4 and len(set(pieces)) == len(pieces)
        assert sum(len(piece.removeprefix("##")) == 1 for piece in pieces) <= (size - 4) // 2
        assert all(one in pieces or f"##{one}" in pieces for piece in pieces for one in piece.removeprefix("##"))
    with pytest.raises(MtlkitError, match="vocabulary is 5, but word pieces begin at 6"):
        WordPieces.learn(TEXTS, 5)


def test_the_order_of_the_texts_does_not_matter() -> None:
    assert WordPieces.learn(TEXTS, 40).pieces == WordPieces.learn(reversed(TEXTS), 40).pieces


def test_the_longest_piece_is_taken_from_the_left() -> None:
    pieces = WordPieces(["a", "b", "ab", "##a", "##b", "##ab", "##abb"])
    assert shown(pieces, "ababb") == ["ab", "##abb"]
    assert shown(pieces, "abab b") == ["ab", "##ab", "b"]
    assert pieces.encode("abc a") == [UNKNOWN, pieces.number["a"]], "a word that does not fit is unknown as a whole"
    assert pieces.encode("") == []


def test_learnt_pieces_spell_the_texts() -> None:
    pieces = WordPieces.learn(TEXTS, 60)
    for word in " ".join(TEXTS).split():
        assert "".join(piece.removeprefix("##") for piece in shown(pieces, word)) == word


def test_the_first_piece_of_a_word_has_its_label() -> None:
    pieces = WordPieces(["a", "##b", "c"])
    a, b, c = (pieces.number[piece] for piece in ("a", "##b", "c"))
    rows = list(tagged(pieces, ["abb", "c", "\u200c", "z"], [5, 6, 7, 8], 20))
    assert rows == [([FIRST, a, b, b, c, UNKNOWN, UNKNOWN, SEPARATOR], [IGNORE, 5, IGNORE, IGNORE, 6, 7, 8, IGNORE])]


def test_a_long_sentence_goes_on_and_keeps_its_labels() -> None:
    pieces = WordPieces(["a", "##b", "c"])
    words, tags = ["ab", "c", "abb", "c", "abbbbb", "ab"], [1, 2, 3, 4, 5, 6]
    rows = list(tagged(pieces, words, tags, 6))
    assert all(len(row) == len(labels) <= 6 for row, labels in rows)
    assert [label for _, labels in rows for label in labels if label != IGNORE] == tags
    assert len(rows) == 3 and all(row[0] == FIRST and row[-1] == SEPARATOR for row, _ in rows)
    assert UNKNOWN in rows[2][0], "a word that is too long alone"


def test_pairs() -> None:
    pieces = WordPieces(["a", "b", "c"])
    a, b, c = (pieces.number[piece] for piece in "abc")
    assert paired(pieces, "a b", "c", 6) == (([FIRST, a, b, SEPARATOR, c, SEPARATOR], [0, 0, 0, 0, 1, 1]), False)
    for first, second, kept in (("a a a a", "b", (2, 1)), ("a", "b b b b", (1, 2)), ("a a a", "b b b", (2, 1))):
        (row, segments), shortened = paired(pieces, first, second, 6)
        assert shortened and len(row) == len(segments) == 6
        assert (row.count(a), row.count(b)) == kept


def test_padding() -> None:
    table = padded([[5, 6], [], [7]], 3, PAD)
    assert table.tolist() == [[5, 6, 0], [0, 0, 0], [7, 0, 0]]
