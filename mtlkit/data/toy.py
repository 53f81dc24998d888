"""The toy problem of the SLGrad release: related functions of a Gaussian input, with noise on the targets.

Published generator: f_t(x) = |tanh((B + eps_t) x)|, x in R^250 from N(0, 1), B from N(0, 1) shared by the tasks,
eps_t from N(0, 3.5) of each task's own. The second number is read as a variance: only then about 93 % of the targets
exceed 0.99, as the release's do (a standard deviation of 3.5 would give 96 %).
"""

import math

import torch
from torch import Tensor

from mtlkit.data import noise as label_noise
from mtlkit.data.base import Dataset, Samples, checksum, generator, sizes
from mtlkit.errors import MtlkitError, one_of

NOISE_KINDS = {"regression": ("replace", "gaussian"), "classification": label_noise.KINDS}
REPLACEMENT = -0.5
REPLACEMENT_STD = math.sqrt(0.2)


def load(
    seed: int,
    *,
    tasks: int = 2,
    input_dimension: int = 250,
    output_dimension: int = 1,
    kind: str = "regression",
    noise: float = 0.0,
    noise_kind: str | None = None,
    noisy_tasks: str = "main",
    related_std: float = math.sqrt(3.5),
    train: int = 600,
    reference: int = 200,
    tuning: int = 200,
    test: int = 200,
    published: bool = False,
) -> Dataset:
    """Fresh functions, inputs, splits and noise for every seed.

    Departures from the release, besides the one of `published`: a tuning set of its own, targets with the shape of the
    predictions.

    Args:
        tasks, input_dimension, output_dimension, train, reference, tuning, test: At least 1.
        kind: `regression`, targets f_t(x); or `classification`, 1 where f_t(x) exceeds its median over the train
            inputs, with output_dimension 1.
        noise: Fraction in [0, 1] of the main task's train targets (of every task's with `noisy_tasks="all"`) that are
            spoilt.
        noise_kind: For regression: `replace` (default) by -0.5, or `gaussian` by draws from N(0, 0.2), 0.2 being the
            variance; round(noise * train) targets are spoilt. For classification: flips, `uniform` (default) or
            `background`.
        related_std: Standard deviation >= 0 of eps_t; 0 makes all tasks the same function.
        published: With 250 inputs the published pre-activation has a standard deviation of 34, so that nearly all
            targets are 1 and there is little to learn. By default it is divided by its standard deviation,
            sqrt(input_dimension * (1 + related_std^2)), which spreads the targets over (0, 1); True leaves it as
            published. |tanh| is even, and 600 samples do not show an even function's direction among 250: the published
            network fits them and then does worse on test than a constant. With 20 inputs or fewer it learns most of the
            function.

    Raises:
        MtlkitError: A setting outside these.
    """
    one_of("kind", kind, NOISE_KINDS)
    noise_kind = noise_kind or NOISE_KINDS[kind][0]
    one_of(f"noise_kind of {kind}", noise_kind, NOISE_KINDS[kind])
    one_of("noisy_tasks", noisy_tasks, ("main", "all"))
    label_noise.check_rate(noise)
    counts = {"train": train, "reference": reference, "tuning": tuning, "test": test}
    dimensions = {"tasks": tasks, "input_dimension": input_dimension, "output_dimension": output_dimension}
    for name, value in (dimensions | counts).items():
        if value < 1:
            raise MtlkitError(f"{name} is {value}, but the toy data need at least 1.")
    if not 0 <= related_std < math.inf:
        raise MtlkitError(f"related_std is {related_std}, but a standard deviation is a finite number from 0 up.")
    if kind == "classification" and output_dimension != 1:
        raise MtlkitError(f"output_dimension is {output_dimension}, but toy classification has one output per task.")

    inputs = torch.randn(sum(counts.values()), input_dimension, generator=generator(seed, "toy inputs"))
    activations = _activations(seed, inputs, tasks, output_dimension, related_std, published)
    if kind == "regression":
        targets = activations.tanh().abs().float()
        groups = torch.zeros(targets.shape[:2], dtype=torch.long)
    else:
        # |tanh| rises with |z|; comparing |z| keeps the order that float rounding loses where tanh saturates
        size = activations.abs()
        groups = (size > size[:, :train].median(dim=1, keepdim=True).values).squeeze(-1).long()
        targets = groups.float()
    if kind == "regression" and output_dimension == 1:
        targets = targets.squeeze(-1)

    parts = torch.arange(len(inputs)).split(list(counts.values()))
    clean = (Samples(inputs[part], targets[:, part], groups[:, part]) for part in parts)
    splits = dict(zip(counts, clean, strict=True))
    draws = generator(seed, "toy noise")
    for task in range(tasks if noisy_tasks == "all" else 1):
        _spoil(splits["train"], task, noise, noise_kind, draws)
    facts = {
        "sizes": sizes(**splits),
        "block": None,
        "wrong_main_labels": int(splits["train"].flipped[0].sum()),
        "noise": f"{noise_kind} {noise} on {'all tasks' if noisy_tasks == 'all' else 'the main task'}"
        if noise
        else "none",
        "constant": _constant(splits["reference"], splits["test"]) if kind == "regression" else None,
    }
    return Dataset(
        name="toy",
        variant="toy-published" if published else "toy",
        checksum=checksum(inputs, targets),
        task_names=[f"task {task}" for task in range(tasks)],
        kind="regression" if kind == "regression" else "binary",
        **splits,
        facts=facts,
    )


def _activations(seed: int, inputs: Tensor, tasks: int, outputs: int, related_std: float, published: bool) -> Tensor:
    """What tanh is applied to, (T, N, D) float64; a task's function does not depend on the number of tasks."""
    draws = generator(seed, "toy functions")
    shape = (outputs, inputs.shape[1])
    shared = torch.randn(shape, generator=draws, dtype=torch.float64)
    own = [torch.randn(shape, generator=draws, dtype=torch.float64) for _ in range(tasks)]
    scale = 1.0 if published else math.sqrt(inputs.shape[1] * (1 + related_std**2))
    return torch.stack([inputs.double() @ (shared + related_std * eps).T / scale for eps in own])


def _constant(known: Samples, asked: Samples) -> dict[str, float]:
    """Test metrics of answering the main task with the mean of the clean reference targets."""
    off = asked.targets[0] - known.targets[0].mean(0)
    return {"loss": float(off.square().mean()), "mae": float(off.abs().mean())}


def _spoil(split: Samples, task: int, noise: float, noise_kind: str, draws: torch.Generator) -> None:
    """Put noise on one task of the train split, in place; draws do not depend on the fraction, so it only adds."""
    if noise_kind in label_noise.KINDS:
        groups, split.flipped[task] = label_noise.flip(split.groups[task], noise, noise_kind, draws)
        split.groups[task], split.targets[task] = groups, groups.float()
        return
    chosen = torch.randperm(len(split), generator=draws)[: round(noise * len(split))]
    gaussian = torch.randn(split.targets[task].shape, generator=draws) * REPLACEMENT_STD
    wrong = gaussian if noise_kind == "gaussian" else torch.full_like(gaussian, REPLACEMENT)
    split.targets[task, chosen] = wrong[chosen]
    split.flipped[task, chosen] = True
