"""Tasks on text: a label for every word of a sentence, or for a pair of sentences.

The loss of a sentence is the mean over its labelled pieces, and its mass their share of all positions, so that the
weighted mean over a batch of sentences of one padded length is the mean over all labelled pieces of the batch, as
XTREME and RLW have it.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtlkit.data.base import Dataset
from mtlkit.pixels import Map, Mask, PixelMeter, cross_entropy, labelled, masked_mean, share
from mtlkit.tasks import Task, multiclass

IGNORE = -100
"""The target of a position without a label."""


def make(kind: str, name: str, labels: Sequence[str]) -> Task:
    """The task of one language in a data set of this kind, `tagging` or `multiclass`."""
    return tagging(name, labels) if kind == "tagging" else multiclass(name)


def constant_metrics(data: Dataset) -> dict[str, dict[str, float]]:
    """Test metrics by language of answers that see no text: the shares of the labels in the training set. What a
    network has learnt is beyond these."""
    labels, found = data.facts["labels"], {}
    for name, seen, asked in zip(data.task_names, data.train.parts, data.test.parts, strict=True):
        known, target = seen.targets[seen.targets != IGNORE], asked.targets[0]
        answer = torch.bincount(known, minlength=len(labels)).clamp_min(1).log()
        meter = make(data.kind, name, labels).meter()
        meter.update(answer.expand(*target.shape, -1), target)
        found[name] = meter.result()
    return found


def tagging(name: str, tags: Sequence[str]) -> Task:
    """Cross-entropy in nats of logits `(B, L, C)` against labels `(B, L)` int64 in 0 .. C-1, -100 where there is none.

    Metrics: `f1` of spans and `accuracy` of single words, as fractions; the papers print per cent.

    A span is a run of words with one type, and found where begin, end and type are right. That is the default mode of
    seqeval (github.com/chakki-works/seqeval), with which XTREME and RLW score: `I-` after another type or after `O`
    begins a span as `B-` does. Parts of speech are scored in the same way, which gives more than one word to a span
    where neighbours have the same tag, except that each word tagged `SCONJ` or `SYM` is one of its own (there `S`
    stands for a single word). Departure from seqeval since July 2020: it drops the first letter of a bare tag, so that
    `CCONJ` and `SCONJ` are one to it and `X` beside the end of a sentence none (its issue 75); tags are whole
    here, as with the version of XTREME's time.

    Args:
        tags: The C labels in order: IOB2 with `O`, or bare types.
    """
    mask = partial(labelled, ignore=IGNORE)
    loss = partial(masked_mean, error=tag_error, mask=mask)
    meter = partial(TagMeter, tags=tags, loss=loss, mask=mask, averaging="pixels")
    return Task(name, loss, meter, partial(share, mask=mask))


def tag_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy `(B, L)` of every position."""
    return cross_entropy(prediction.transpose(1, 2), target, ignore=IGNORE)


class TagMeter(PixelMeter):
    """Counts words and spans that are right; positions take the place of pixels."""

    names = ("f1", "accuracy")

    def __init__(self, *, tags: Sequence[str], **rest: Map | Mask | str) -> None:
        super().__init__(**rest)
        kinds = ["" if tag == "O" else tag.removeprefix("B-").removeprefix("I-") for tag in tags]
        number = {kind: k for k, kind in enumerate(dict.fromkeys(["", *kinds]))}
        # An end of sentence, the last entry, is outside of all spans.
        self.types = torch.tensor([*(number[kind] for kind in kinds), 0])
        self.begins = torch.tensor([*(tag.startswith(("B-", "S")) for tag in tags), False])

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        guess = prediction.argmax(-1)
        right = ((guess == target) & valid).sum(1)
        order = (~valid).long().argsort(dim=1, stable=True)  # words side by side, then padding
        spans = [self._spans(label.masked_fill(~valid, len(self.types) - 1).gather(1, order))
                 for label in (guess, target)]  # fmt: skip
        (guess_ends, *guess_spans), (ends, *true_spans) = spans
        same = ends & guess_ends
        for one, other in zip(guess_spans, true_spans, strict=True):
            same = same & (one == other)
        return torch.stack([right, *(found.sum(1) for found in (same, guess_ends, ends))], 1).double()

    def _spans(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where spans end `(B, L)` bool, and there the type and the first position of each."""
        types, begins = (table.to(labels.device)[labels] for table in (self.types, self.begins))
        inside = types > 0
        before = torch.nn.functional.pad(types, (1, 0))[:, :-1]
        starts = inside & (begins | (types != before))
        after = torch.nn.functional.pad(starts | ~inside, (0, 1), value=True)[:, 1:]
        positions = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
        first = positions.masked_fill(~starts, -1).cummax(1).values
        return inside & after, types, first

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        right, same, guessed, true = counts.split(1, 1)
        return torch.cat([2 * same / (guessed + true).clamp_min(1), right / pixels], 1)
