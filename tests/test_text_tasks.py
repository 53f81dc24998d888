"""Tagging: the loss of a batch, spans against a slow loop and seqeval, and what needs no text."""

import pytest
import torch
from torch.nn import functional as F

from mtlkit.data import xtreme
from mtlkit.data.sentences import IOB2, UPOS
from mtlkit.text_tasks import IGNORE, constant_metrics, make, tagging

Sentences = list[list[str]]


def random_sentences(labels: tuple[str, ...], seed: int, count: int = 40) -> tuple[Sentences, Sentences]:
    """True and guessed tags, alike in two of three words; few labels, so that neighbours often have the same."""
    random = torch.Generator().manual_seed(seed)
    few = [labels[k] for k in torch.randperm(len(labels), generator=random)[:4]]
    true, guess = [], []
    for _ in range(count):
        length = int(torch.randint(1, 9, (), generator=random))
        drawn = torch.randint(len(few), (2, length), generator=random)
        kept = torch.rand(length, generator=random) < 2 / 3
        true.append([few[k] for k in drawn[0]])
        guess.append([few[k] for k in torch.where(kept, drawn[0], drawn[1])])
    return true, guess


def encoded(labels: tuple[str, ...], true: Sentences, guess: Sentences) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets in which a position without a label follows every word, as a second piece does."""
    length = 2 * max(map(len, true)) + 3
    logits, targets = torch.rand(len(true), length, len(labels)), torch.full((len(true), length), IGNORE)
    for i, (right, guessed) in enumerate(zip(true, guess, strict=True)):
        for j, (tag, other) in enumerate(zip(right, guessed, strict=True)):
            targets[i, 2 * j + 1] = labels.index(tag)
            logits[i, 2 * j + 1, labels.index(other)] += 5
    return logits, targets


def measured(labels: tuple[str, ...], true: Sentences, guess: Sentences, batch: int = 7) -> dict[str, float]:
    meter = tagging("en", labels).meter()
    for pair in zip(*(one.split(batch) for one in encoded(labels, true, guess)), strict=True):
        meter.update(*pair)
    return meter.result()


def spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """The obvious loop."""
    found, open_ = set(), None
    for at, tag in enumerate([*tags, "O"]):
        kind = tag.removeprefix("B-").removeprefix("I-")
        alone = tag.startswith(("B-", "S"))
        if open_ and (tag == "O" or alone or kind != open_[0]):
            found.add((*open_, at - 1))
            open_ = None
        if tag != "O" and not open_:
            open_ = (kind, at)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [IOB2, UPOS], ids=["names", "parts_of_speech"])
def test_spans_against_the_obvious_loop(labels: tuple[str, ...], seed: int) -> None:
    true, guess = random_sentences(labels, seed)
    pairs = [(spans(a), spans(b)) for a, b in zip(true, guess, strict=True)]
    same, every = sum(len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)
    words = [a == b for ones, others in zip(true, guess, strict=True) for a, b in zip(ones, others, strict=True)]
    result = measured(labels, true, guess)
    assert result["f1"] == pytest.approx(2 * same / every if every else 0)
    assert result["accuracy"] == pytest.approx(sum(words) / len(words))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("labels", [IOB2, UPOS], ids=["names", "parts_of_speech"])
def test_spans_against_seqeval(labels: tuple[str, ...], seed: int) -> None:
    metrics = pytest.importorskip("seqeval.metrics", reason="needs seqeval")
    true, guess = random_sentences(labels, seed)

    def whole(sentences: Sentences) -> Sentences:
        """Bare tags with the letter that seqeval once read off them, since it now takes the first letter away."""
        if labels is IOB2:
            return sentences
        return [[f"{'B' if tag[0] == 'S' else 'I'}-{tag}" for tag in tags] for tags in sentences]

    assert measured(labels, true, guess)["f1"] == pytest.approx(metrics.f1_score(whole(true), whole(guess)))


@pytest.mark.parametrize(
    ("true", "guess", "f1"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-LOC"], 1),
        (["B-PER", "I-PER", "O"], ["I-PER", "I-PER", "O"], 1),  # I- after O begins a span
        (["B-PER", "I-PER", "O"], ["B-PER", "I-LOC", "O"], 0),  # so does another type
        (["B-PER", "B-PER", "O"], ["B-PER", "I-PER", "O"], 0),
        (["B-PER", "O", "B-LOC"], ["B-PER", "O", "O"], 2 / 3),
        (["O", "O"], ["O", "O"], 0),
    ],
)
def test_names_by_hand(true: list[str], guess: list[str], f1: float) -> None:
    assert measured(IOB2, [true], [guess])["f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    ("true", "guess", "f1"),
    [
        (["NOUN", "NOUN", "VERB"], ["NOUN", "VERB", "VERB"], 0),  # runs of one tag
        (["SYM", "SYM", "VERB"], ["SYM", "NOUN", "VERB"], 4 / 6),  # these stand alone
        (["CCONJ", "X"], ["SCONJ", "X"], 1 / 2),  # whole tags, and one at the end of a sentence
    ],
)
def test_parts_of_speech_by_hand(true: list[str], guess: list[str], f1: float) -> None:
    assert measured(UPOS, [true], [guess])["f1"] == pytest.approx(f1)


def test_the_loss_of_a_batch_is_the_mean_over_its_labelled_pieces() -> None:
    task = tagging("en", IOB2)
    logits, targets = encoded(IOB2, *random_sentences(IOB2, 0))
    losses, mass = task.loss(logits, targets), task.mass(targets)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    assert float((mass * losses).sum() / mass.sum()) == pytest.approx(float(expected), rel=1e-6)
    assert torch.equal(mass, (targets != IGNORE).float().mean(1))
    assert measured(IOB2, *random_sentences(IOB2, 0))["loss"] > 0


def test_a_sentence_without_labels_has_no_loss_and_no_mass() -> None:
    task, logits = tagging("en", IOB2), torch.rand(2, 4, 7, requires_grad=True)
    targets = torch.full((2, 4), IGNORE)
    assert not task.loss(logits, targets).any() and not task.mass(targets).any()
    task.loss(logits, targets).sum().backward()
    assert not logits.grad.any()


@pytest.mark.parametrize("problem", ["udpos", "xnli"])
def test_what_needs_no_text(problem: str) -> None:
    data = xtreme.load(0, problem=problem, source="builtin", train=60, held_out=40)
    found = constant_metrics(data)
    for name, seen, asked in zip(data.task_names, data.train.parts, data.test.parts, strict=True):
        target, most = asked.targets[asked.targets != IGNORE], seen.targets[seen.targets != IGNORE].mode().values
        assert found[name]["accuracy"] == pytest.approx(float((target == most).float().mean()))
        assert make(data.kind, name, data.facts["labels"]).name == name
