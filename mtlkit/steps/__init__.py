"""One update: what a weighting method needs from the engine, its weights, and the gradients they give."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mtlkit.engine.reference import Loss
from mtlkit.steps.base import Outcome, Step
from mtlkit.steps.bilevel import ByLookingAhead
from mtlkit.steps.by_alignment import ByAlignment
from mtlkit.steps.by_gradients import ByDirection, ByGradients
from mtlkit.steps.by_losses import ByLosses
from mtlkit.weighting.base import Weighting

STEPS: dict[str, type[Step]] = {
    "losses": ByLosses,
    "alignment": ByAlignment,
    "gradients": ByGradients,
    "direction": ByDirection,
    "bilevel": ByLookingAhead,
}
"""By what a method `needs`."""


def make_step(network: nn.Module, losses: Sequence[Loss], rule: Weighting, **options: Any) -> Step:
    """The step that a weighting method needs; arguments as for `Step`."""
    return STEPS[rule.needs](network, losses, rule, **options)


__all__ = ["STEPS", "Outcome", "Step", "make_step"]
