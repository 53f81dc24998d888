"""Text as numbers: word pieces, learnt from the training text or those of a published encoder, and their alignment.

A word is cut greedily into the longest known pieces, of which all but the first begin with `##` (WordPiece as in
BERT, Devlin et al. 2019, section 3). The pieces are learnt by merging the most frequent neighbours (Sennrich et al.
2016, arXiv 1508.07909), here and not by the tokenizers library: what that learns from the same text has other numbers,
and on ties can have other pieces, from process to process (its issue 1794, open in version 0.23.3). Sequences are built
as in XTREME (Hu et al. 2020, arXiv 2003.11080): [CLS] words [SEP], or [CLS] first [SEP] second [SEP].
"""

import heapq
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.pretrained import from_cache

IGNORE = -100
"""The label of a position without one: a special piece, a word's second piece, padding."""

PAD, UNKNOWN, FIRST, SEPARATOR = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CHINESE = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x30000))
"""Code points of characters that are words."""

Pair = tuple[str, str]
Sequences = tuple[list[int], list[int]]
"""Pieces of one sample, and a number beside each."""


class Tokenizer(Protocol):
    """Pieces of words or sentences, as numbers in 0 .. size-1."""

    size: int
    pad: int
    unknown: int
    first: int
    separator: int

    def encode(self, text: str) -> list[int]:
        """Pieces of a text, without special ones; none for a text without visible characters."""


class WordPieces:
    """A vocabulary of word pieces; the first four are `SPECIAL`."""

    pad, unknown, first, separator = PAD, UNKNOWN, FIRST, SEPARATOR

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = [*SPECIAL, *pieces]
        self.size = len(self.pieces)
        self.number = {piece: k for k, piece in enumerate(self.pieces)}
        self.longest = max(map(len, self.pieces))
        self.known: dict[str, list[int]] = {}

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "WordPieces":
        """At most `size` pieces: the special ones, single characters by frequency, up to half of the others, then
        merges by frequency.

        Ties are broken by the pieces themselves, so equal texts give equal pieces, in whatever order they come.

        Raises:
            MtlkitError: `size` leaves no room for a character.
        """
        room = size - len(SPECIAL)
        if room < 2:
            raise MtlkitError(f"vocabulary is {size}, but word pieces begin at {len(SPECIAL) + 2}: the special ones "
                              "and a character.")  # fmt: skip
        words = sorted(Counter(word for text in texts for word in split(text)).items())
        cut = [([word[0], *(f"##{one}" for one in word[1:])], count) for word, count in words]
        single: Counter[str] = Counter()
        for symbols, count in cut:
            for symbol in symbols:
                single[symbol] += count
        alphabet = sorted(sorted(single), key=lambda symbol: -single[symbol])[: room // 2]
        known = set(alphabet)
        whole = [(symbols, count) for symbols, count in cut if known.issuperset(symbols)]
        return cls([*alphabet, *_merges(whole, known, room - len(alphabet))])

    def encode(self, text: str) -> list[int]:
        return [piece for word in split(text) for piece in self._word(word)]

    def _word(self, word: str) -> list[int]:
        """The longest pieces from the left; one unknown piece where that leads nowhere."""
        if word not in self.known:
            pieces, start = [], 0
            while start < len(word):
                mark = "##" if start else ""
                ends = range(min(len(word), start + self.longest), start, -1)
                end = next((end for end in ends if mark + word[start:end] in self.number), None)
                if end is None:
                    pieces = [UNKNOWN]
                    break
                pieces.append(self.number[mark + word[start:end]])
                start = end
            self.known[word] = pieces
        return self.known[word]


def _merges(words: list[tuple[list[str], int]], known: set[str], count: int) -> list[str]:
    """The first `count` new pieces that come of merging, again and again, the most frequent neighbours.

    Args:
        words: Symbols and frequency of every word; the symbols are merged in place.
    """
    pairs: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for k, (symbols, times) in enumerate(words):
        for pair in pairwise(symbols):
            pairs[pair] += times
            where[pair].add(k)
    queue = [(-times, pair) for pair, times in pairs.items()]
    heapq.heapify(queue)
    new: list[str] = []
    while queue and len(new) < count:
        times, best = heapq.heappop(queue)
        if -times != pairs[best]:  # merges nearby have made it rarer
            if pairs[best]:
                heapq.heappush(queue, (-pairs[best], best))
            continue
        if -times < 2:
            break
        merged = best[0] + best[1].removeprefix("##")
        if merged not in known:
            known.add(merged)
            new.append(merged)
        changed: set[Pair] = set()
        for k in where.pop(best):
            symbols, times = words[k]
            pairs.subtract({pair: times * n for pair, n in Counter(pairwise(symbols)).items()})
            symbols[:] = _merge(symbols, best, merged)
            for pair in pairwise(symbols):
                pairs[pair] += times
                where[pair].add(k)
                if merged in pair:
                    changed.add(pair)
        for pair in changed:
            heapq.heappush(queue, (-pairs[pair], pair))
    return new


def _merge(symbols: list[str], pair: Pair, merged: str) -> list[str]:
    found: list[str] = []
    for symbol in symbols:
        if found and (found[-1], symbol) == pair:
            found[-1] = merged
        else:
            found.append(symbol)
    return found


class OfEncoder:
    """The tokenizer of a published encoder of the BERT family, from the local cache.

    Raises:
        MtlkitError: It is not there, or has no special pieces as BERT's.
    """

    def __init__(self, name: str) -> None:
        self.tokenizer: Any = from_cache("AutoTokenizer", name)
        special = [getattr(self.tokenizer, f"{one}_token_id") for one in ("pad", "unk", "cls", "sep")]
        if None in special:
            raise MtlkitError(f"the tokenizer of encoder {name!r} lacks one of {', '.join(SPECIAL)}; expected is an "
                              "encoder of the BERT family, such as bert-base-multilingual-cased.")  # fmt: skip
        self.pad, self.unknown, self.first, self.separator = special
        self.size = len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text))


def split(text: str) -> list[str]:
    """Words of a text: cut at spaces; a punctuation mark, a symbol of ASCII and a Chinese character stand alone, as in
    BERT. Control and format characters are dropped."""
    return "".join(map(_spaced, text)).split()


@cache
def _spaced(character: str) -> str:
    category, code = unicodedata.category(character), ord(character)
    if character.isspace():
        return " "
    if category[0] == "C":
        return ""
    alone = category[0] == "P" or (code < 128 and not character.isalnum()) or any(code in some for some in CHINESE)
    return f" {character} " if alone else character


def tagged(tokenizer: Tokenizer, words: Sequence[str], tags: Sequence[int], longest: int) -> Iterator[Sequences]:
    """Pieces and labels of one sentence: a word's first piece has its label, all else `IGNORE`.

    A sentence of more than `longest` pieces goes on as a further one, as XTREME's preparation has it, so that no
    label is lost. A word without visible characters, or alone too long, becomes the unknown piece.
    """
    room = longest - 2
    pieces: list[int] = []
    labels: list[int] = []
    for word, tag in zip(words, tags, strict=True):
        of_word = tokenizer.encode(word)
        if not 0 < len(of_word) <= room:
            of_word = [tokenizer.unknown]
        if len(pieces) + len(of_word) > room:
            yield _framed(tokenizer, pieces, labels)
            pieces, labels = [], []
        pieces += of_word
        labels += [tag, *[IGNORE] * (len(of_word) - 1)]
    yield _framed(tokenizer, pieces, labels)


def _framed(tokenizer: Tokenizer, pieces: list[int], labels: list[int]) -> Sequences:
    return [tokenizer.first, *pieces, tokenizer.separator], [IGNORE, *labels, IGNORE]


def paired(tokenizer: Tokenizer, first: str, second: str, longest: int) -> tuple[Sequences, bool]:
    """Pieces and segments (0, and 1 from the second sentence on) of a pair of sentences, and whether it was shortened.

    A pair of more than `longest` pieces loses pieces at the end of whichever sentence is longer at that moment, of
    the second where both are as long: as the tokenizers of XTREME's time; today's fast ones leave the second the more.
    """
    a, b, room = tokenizer.encode(first), tokenizer.encode(second), longest - 3
    over = len(a) + len(b) - room
    if over > 0:
        keep = max(room - len(b), (room + 1) // 2)
        a = a[:keep]
        b = b[: room - len(a)]
    pieces = [tokenizer.first, *a, tokenizer.separator, *b, tokenizer.separator]
    return (pieces, [0] * (len(a) + 2) + [1] * (len(b) + 1)), over > 0


def padded(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    """(N, length) int64: every row, and `value` after it."""
    table = torch.full((len(rows), length), value)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = torch.tensor(row)
    return table
