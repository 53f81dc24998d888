"""Weighting methods: each maps what one step sees to weights over the loss matrix.

Add a method: one file with one class, and one line in `METHODS`.
"""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting.base import AlignmentRule, Rule, Signal, Weighting, share_out, spread
from mtlkit.weighting.controls import LabelConsistency, MainTask, Oracle
from mtlkit.weighting.ew import EqualWeighting
from mtlkit.weighting.rlw import RandomLossWeighting
from mtlkit.weighting.slgrad import SLGrad

METHODS: dict[str, type[Weighting]] = {
    "ew": EqualWeighting,
    "rlw": RandomLossWeighting,
    "slgrad": SLGrad,
    "main": MainTask,
    "oracle": Oracle,
    "label_consistency": LabelConsistency,
}

__all__ = ["METHODS", "AlignmentRule", "Rule", "Signal", "Weighting", "build", "share_out", "spread",
           *(method.__name__ for method in METHODS.values())]  # fmt: skip


def build(name: str, tasks: int, parameters: Mapping[str, Any] = MappingProxyType({})) -> Weighting:
    """The method called `name`, given those of `parameters` that it has an option for.

    Raises:
        MtlkitError: Unknown name, or an option outside its range.
    """
    one_of("weighting", name, METHODS)
    if tasks < 1:
        raise MtlkitError(f"tasks is {tasks!r}, which is not at least 1.")
    options = inspect.signature(METHODS[name]).parameters.keys() - {"tasks"}
    return METHODS[name](tasks, **{key: value for key, value in parameters.items() if key in options})
