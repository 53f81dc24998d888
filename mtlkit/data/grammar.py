"""Toy languages that stand in for XTREME: they say the same things in words, orders and endings of their own.

A meaning is drawn first, without a language, and then said: word order, place of adjectives and adpositions, and how
much is inflected follow the typology of the language whose place a toy language takes; the words are invented. A third
of the verbs sound like nouns, a third of the adjectives like verbs, and most names in a set are new, so that tagging
needs the context and the endings.
"""

from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import NamedTuple

from mtlkit.errors import one_of

Word = tuple[str, str, str]
"""A word, its part of speech (UPOS) and its name tag (IOB2)."""

ADVERBS = 12


class Lexicon(NamedTuple):
    """How many concepts of each kind are spoken of."""

    nouns: int
    verbs: int
    adjectives: int


LARGE, SMALL = Lexicon(600, 400, 300), Lexicon(60, 40, 30)


@dataclass(frozen=True)
class Language:
    """How meanings are said: the order of subject (S), verb (V) and object (O); whether adjectives and adpositions
    precede the noun; sounds; and the endings of plurals, objects and past tense, empty where there is none."""

    order: str
    adjective_first: bool
    preposition: bool
    consonants: str
    vowels: str
    plural: str
    accusative: str
    past: str


LANGUAGES = {
    "en": Language("SVO", True, True, "bdfgklmnprstw", "aeiou", "s", "", "ed"),
    "zh": Language("SVO", True, True, "bcdghjlnqsxz", "aeiu", "", "", ""),
    "te": Language("SOV", True, False, "cdgklmnprtv", "aiu", "lu", "ni", "di"),
    "vi": Language("SVO", False, True, "bchklmnqtvx", "aeio", "", "", ""),
    "de": Language("VSO", True, True, "bdfghklmnrstz", "aeiu", "en", "m", "te"),
    "es": Language("VOS", False, True, "bcdflmnprst", "aeio", "s", "", "ra"),
}


@dataclass(frozen=True)
class Noun:
    """A thing; or with `name` somebody or something of that kind (`PER`, `LOC`, `ORG`), and `concept` numbers
    the name."""

    concept: int
    adjective: int | None = None
    plural: bool = False
    definite: bool = True
    name: str = ""


@dataclass(frozen=True)
class Clause:
    """Who does what to whom, how and where; `passive` and `adverb_first` change the saying, not the meaning."""

    subject: Noun
    verb: int
    object: Noun
    adverb: int | None = None
    place: Noun | None = None
    negated: bool = False
    passive: bool = False
    adverb_first: bool = False


def tagged(code: str, split: str, count: int) -> list[list[Word]]:
    """The first so many sentences of a split, of the language that takes the place of `code`.

    Every language has sentences of its own.

    Raises:
        MtlkitError: A code without a toy language.
    """
    one_of("language", code, LANGUAGES)
    draw = Random(f"tagged {code} {split}")
    return [say(LANGUAGES[code], _clause(draw, LARGE, names=True)) for _ in range(count)]


def pairs(problem: str, code: str, split: str, count: int) -> list[tuple[str, str, int]]:
    """The first so many pairs of a split, with their label; all languages say the same pairs.

    Args:
        problem: `pawsx`, whether both sentences mean the same (1): a paraphrase moves the adverb or changes the voice;
            what only looks like one exchanges who and whom, has another thing, or is negated. `xnli`: the second
            sentence contradicts the first (0), follows from it (1), or says more (2). The second sentence alone tells
            much, as in XNLI (and unlike PAWS-X), so that a small network learns something within a minute.

    Raises:
        MtlkitError: A code without a toy language.
    """
    one_of("language", code, LANGUAGES)
    draw = Random(f"{problem} {split}")
    made = [(_paraphrase if problem == "pawsx" else _inference)(draw) for _ in range(count)]
    language = LANGUAGES[code]
    return [(*(" ".join(word for word, _, _ in say(language, clause)) for clause in both), label)
            for *both, label in made]  # fmt: skip


def say(language: Language, clause: Clause) -> list[Word]:
    """The words of a clause, with their tags."""
    subject, whom = (clause.object, clause.subject) if clause.passive else (clause.subject, clause.object)
    verb = stem(language, f"{'verb' if clause.verb % 3 else 'noun'} {clause.verb}") + language.past
    parts = {
        "S": _noun(language, subject, ""),
        "V": [*([(stem(language, "not"), "PART", "O")] if clause.negated else []),
              *([(stem(language, "be"), "AUX", "O")] if clause.passive else []), (verb, "VERB", "O")],
        "O": _noun(language, whom, "" if clause.passive else language.accusative),
    }  # fmt: skip
    if clause.passive:
        parts["O"] = _at(language, "by", parts["O"])
    words = [word for part in language.order for word in parts[part]]
    adverb = [] if clause.adverb is None else [(stem(language, f"adverb {clause.adverb}"), "ADV", "O")]
    place = [] if clause.place is None else _at(language, "in", _noun(language, clause.place, ""))
    return [*(adverb if clause.adverb_first else []), *words, *place, *([] if clause.adverb_first else adverb),
            (".", "PUNCT", "O")]  # fmt: skip


@cache
def stem(language: Language, concept: str) -> str:
    """Two or three invented syllables, always the same."""
    draw = Random(f"{language} {concept}")
    syllables = range(draw.choice((2, 2, 3)))
    return "".join(draw.choice(language.consonants) + draw.choice(language.vowels) for _ in syllables)


def _at(language: Language, adposition: str, noun: list[Word]) -> list[Word]:
    word = [(stem(language, adposition), "ADP", "O")]
    return word + noun if language.preposition else noun + word


def _noun(language: Language, noun: Noun, ending: str) -> list[Word]:
    if noun.name:
        return _name(language, noun, ending)
    word = (stem(language, f"noun {noun.concept}") + (language.plural if noun.plural else "") + ending, "NOUN", "O")
    kind = "verb" if noun.adjective and noun.adjective % 3 == 1 else "adjective"
    adjective = [] if noun.adjective is None else [(stem(language, f"{kind} {noun.adjective}"), "ADJ", "O")]
    article = [(stem(language, "the"), "DET", "O")] if noun.definite else []
    return [*article, *adjective, word] if language.adjective_first else [*article, word, *adjective]


def _name(language: Language, noun: Noun, ending: str) -> list[Word]:
    """A place is one new word, a person two, an organisation a new word and what it is."""
    words = [stem(language, f"name {noun.concept}").capitalize()]
    if noun.name == "PER":
        words.append(stem(language, f"family {noun.concept % 97}").capitalize())
    elif noun.name == "ORG":
        words.append(stem(language, f"organisation {noun.concept % 5}").capitalize())
    words[-1] += ending
    return [(word, "PROPN", f"{'I' if k else 'B'}-{noun.name}") for k, word in enumerate(words)]


def _clause(draw: Random, lexicon: Lexicon, names: bool) -> Clause:
    def thing(*kinds: str) -> Noun:
        if names and draw.random() < 0.4:
            return Noun(draw.randrange(10_000), name=draw.choice(kinds))
        adjective = draw.randrange(lexicon.adjectives) if draw.random() < 0.4 else None
        return Noun(draw.randrange(lexicon.nouns), adjective, draw.random() < 0.3, draw.random() < 0.6)

    place = thing("LOC") if draw.random() < 0.5 else None
    adverb = draw.randrange(ADVERBS) if draw.random() < 0.5 else None
    return Clause(thing("PER", "ORG"), draw.randrange(lexicon.verbs), thing("PER", "ORG", "LOC"), adverb, place,
                  passive=draw.random() < 0.2, adverb_first=draw.random() < 0.3)  # fmt: skip


def _paraphrase(draw: Random) -> tuple[Clause, Clause, int]:
    first = _clause(draw, SMALL, names=False)
    if first.adverb is None:
        first = replace(first, adverb=draw.randrange(ADVERBS))
    moved = replace(first, adverb_first=not first.adverb_first)
    if draw.random() < 0.5:
        return first, replace(first, passive=not first.passive) if draw.random() < 0.6 else moved, 1
    how = draw.random()
    if how < 0.4:
        return first, replace(moved, negated=True), 0
    if how < 0.8:
        return first, replace(moved, subject=first.object, object=first.subject), 0
    another = (first.object.concept + draw.randrange(1, SMALL.nouns)) % SMALL.nouns
    return first, replace(moved, object=replace(first.object, concept=another)), 0


def _inference(draw: Random) -> tuple[Clause, Clause, int]:
    first = _clause(draw, SMALL, names=False)
    shorter = replace(first, adverb=None, place=None, subject=replace(first.subject, adjective=None), passive=False)
    label = draw.randrange(3)
    if label == 0:
        opposite = replace(shorter, negated=True)
        return first, opposite if draw.random() < 0.7 else replace(shorter, verb=(first.verb + 1) % SMALL.verbs), label
    if label == 1:
        return first, shorter, label
    others = [adverb for adverb in range(ADVERBS) if adverb != first.adverb]
    return first, replace(shorter, adverb=draw.choice(others)), label
