"""What every loader returns, and the construction that the one-against-rest image data share."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.data import noise as label_noise
from mtlkit.errors import MtlkitError, one_of

TRAIN, REFERENCE = 800, 200
BLOCK = TRAIN + REFERENCE


@dataclass
class Samples:
    """Samples as tensors on one device: one of the four disjoint sets, or a batch. T tasks (task 0 is the main one).

    Attributes:
        inputs: (N, ...).
        targets: (T, N, ...), what training sees; T tensors (N, ...) where the tasks' targets differ in shape or type.
        groups: (T, N) int64, label group: the class of the seen label; zeros for regression, and where not given.
        flipped: (T, N) bool, the seen target differs from the clean one; only controls and reports may look. All False
            where not given.
        mass: (T, N) >= 0, zero where a label is missing; ones where not given.
        index: (N,) int64, for a batch: where its samples stand in the set that it was taken from.
    """

    inputs: Tensor
    targets: Tensor | tuple[Tensor, ...]
    groups: Tensor | None = None
    flipped: Tensor | None = None
    mass: Tensor | None = None
    index: Tensor | None = None

    def __post_init__(self) -> None:
        shape, device = (len(self.targets), len(self.inputs)), self.inputs.device
        if self.groups is None:
            self.groups = torch.zeros(shape, dtype=torch.int64, device=device)
        if self.flipped is None:
            self.flipped = torch.zeros(shape, dtype=torch.bool, device=device)
        if self.mass is None:
            self.mass = torch.ones(shape, device=device)

    def __len__(self) -> int:
        """Number of samples N."""
        return len(self.inputs)

    def to(self, device: torch.device | str) -> "Samples":
        """The same split on `device`."""
        return self._with(lambda values, _: values.to(device))

    def take(self, index: Tensor) -> "Samples":
        """The samples at `index` (B,), int64 on the same device."""
        taken = self._with(lambda values, dim: values.index_select(dim, index))
        taken.index = index
        return taken

    def join(self, other: "Samples") -> "Samples":
        """This split followed by `other`, along N; both have the same tasks."""
        return self._with(lambda values, dim, more: torch.cat((values, more), dim), other)

    def _with(self, change: Callable[..., Tensor], *others: "Samples") -> "Samples":
        """`change(values, dim, *others' values)` of every tensor, whose samples lie along `dim`."""
        rows = [[getattr(one, field.name) for one in (self, *others)] for field in fields(self)[:-1]]
        made: list[Any] = [change(rows[0][0], 0, *rows[0][1:])]
        for values, *more in rows[1:]:
            each = isinstance(values, tuple)
            made.append(tuple(change(one[0], 0, *one[1:]) for one in zip(values, *more, strict=True)) if each
                        else change(values, 1, *more))  # fmt: skip
        return Samples(*made)


@dataclass
class Dataset:
    """Four disjoint splits and where they come from.

    Attributes:
        variant: Which data these are, such as `cifar10-official` or `digits`; results of two variants never mix.
        checksum: First 16 hex digits of the SHA-256 of the source arrays.
        kind: `binary`, `multiclass`, `regression` or `dense`.
        facts: JSON-able: `sizes`, `block`, `wrong_main_labels` (number in train), `noise` (in words); `outputs`, for
            dense data: channels of the prediction by task; `constant`, for regression: test metrics of answering the
            main task with the mean of the reference targets.
        augment: `augment(batch, random)`, changes a batch of training or reference samples; draws from the CPU
            generator.
    """

    name: str
    variant: str
    checksum: str
    task_names: list[str]
    kind: str
    train: Samples
    reference: Samples
    tuning: Samples
    test: Samples
    facts: dict[str, Any]
    augment: Callable[[Samples, torch.Generator], Samples] | None = None


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for every (seed, purpose), so that, say, the noise level cannot move the split."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def checksum(*arrays: np.ndarray | Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the arrays' types, shapes and values, in order."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def sizes(**splits: Samples) -> dict[str, int]:
    """Number of samples of every split, for `Dataset.facts`."""
    return {name: len(split) for name, split in splits.items()}


def one_against_rest(
    block: tuple[Tensor, Tensor],
    tuning: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    name: str,
    variant: str,
    source_checksum: str,
    classes: Sequence[str],
    block_number: int | None,
    seed: int,
    tasks: int,
    main_class: int,
    noise_kind: str,
    noise: float,
    noisy_tasks: str,
    reference_size: int = 0,
    reference_noise: float = 0.0,
    human: Tensor | None = None,
) -> Dataset:
    """One binary task per class ("is it this class?"): task 0 is `main_class`, the other classes follow in order.

    Inputs are standardised per channel with mean and standard deviation of the training images.

    Args:
        block, tuning, test: Pairs of images (N, 3, 32, 32), any number type, and classes (N,) in 0..9. The block's 1000
            samples are permuted by the seed and give 800 for training and 200 for reference, of which the first
            `reference_size` are used (0: all). Noise enters the training targets only; with `reference_noise` the
            reference targets of the same tasks are flipped too, with that probability (uniformly, where the noise is
            human).
        human: (1000,) human-given classes of the block; they replace the clean ones instead of random flips.

    Raises:
        MtlkitError: Settings outside their choices.
    """
    if tasks not in range(1, len(classes) + 1):
        raise MtlkitError(f"tasks is {tasks}, but there are {len(classes)} classes: 1 to {len(classes)} tasks.")
    if main_class not in range(len(classes)):
        raise MtlkitError(f"main_class is {main_class}, but classes are numbered 0 to {len(classes) - 1}.")
    one_of("noisy_tasks", noisy_tasks, ("main", "all"))
    if not 0 <= reference_size <= REFERENCE:
        raise MtlkitError(f"reference_size is {reference_size}, but there are {REFERENCE} reference images: 1 to "
                          f"{REFERENCE}, or 0 for all.")  # fmt: skip
    order = torch.tensor([main_class, *(c for c in range(len(classes)) if c != main_class)][:tasks])
    permutation = torch.randperm(BLOCK, generator=generator(seed, "split"))
    train_images, train_classes = (part[permutation[:TRAIN]] for part in block)
    statistics_of = train_images.float()
    mean = statistics_of.mean((0, 2, 3), keepdim=True)
    std = statistics_of.std((0, 2, 3), keepdim=True).clamp_min(1e-6)

    def split(images: Tensor, labels: Tensor) -> Samples:
        seen = (labels == order[:, None]).long()
        return Samples(((images.float() - mean) / std).contiguous(), seen.float(), seen)

    train = split(train_images, train_classes)
    noisy = range(tasks if noisy_tasks == "all" else 1)
    where = "all tasks" if noisy_tasks == "all" else "the main task"

    def flip(samples: Samples, rate: float, kind: str, draws: torch.Generator) -> None:
        for task in noisy:  # the main task draws first: its flips do not depend on noisy_tasks
            samples.groups[task], samples.flipped[task] = label_noise.flip(samples.groups[task], rate, kind, draws)
        samples.targets = samples.groups.float()

    if human is None:
        flip(train, noise, noise_kind, generator(seed, "noise"))
        described = f"{noise_kind} {noise} on {where}" if noise else "none"
    else:
        seen = (human[permutation[:TRAIN]] == order[:, None]).long()
        for task in noisy:
            train.flipped[task] = seen[task] != train.groups[task]
            train.groups[task] = seen[task]
        train.targets = train.groups.float()
        described = f"{noise_kind} on {where}"
    reference = split(*(part[permutation[TRAIN:][: reference_size or REFERENCE]] for part in block))
    if reference_noise:
        kind = noise_kind if noise_kind in label_noise.KINDS else "uniform"
        flip(reference, reference_noise, kind, generator(seed, "reference noise"))
        described += f"; reference set: {kind} {reference_noise}"
    splits = {
        "train": train,
        "reference": reference,
        "tuning": split(*tuning),
        "test": split(*test),
    }
    facts = {
        "sizes": sizes(**splits),
        "block": block_number,
        "wrong_main_labels": int(train.flipped[0].sum()),
        "noise": described,
    }
    return Dataset(name, variant, source_checksum, [classes[c] for c in order], "binary", **splits, facts=facts)
