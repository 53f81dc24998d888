"""Weighting methods: each maps what one step sees to weights over the loss matrix.

Add a method: one file with one class, and one line in `METHODS`.
"""

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mtlkit.errors import MtlkitError, one_of, suggestion
from mtlkit.weighting.aligned_mtl import AlignedMTL
from mtlkit.weighting.aligned_selection import AlignedSelection
from mtlkit.weighting.base import AlignmentRule, Rule, Signal, Weighting, share_out, spread
from mtlkit.weighting.bilevel import MOML, AutoLambda, Bilevel
from mtlkit.weighting.cagrad import CAGrad
from mtlkit.weighting.controls import LabelConsistency, MainTask, Oracle
from mtlkit.weighting.cosine import CosineSimilarity, WeightedCosineSimilarity
from mtlkit.weighting.db_mtl import DBMTL
from mtlkit.weighting.dwa import DynamicWeightAverage
from mtlkit.weighting.ew import EqualWeighting
from mtlkit.weighting.fairgrad import FairGrad
from mtlkit.weighting.famo import FAMO
from mtlkit.weighting.gls import GeometricLoss
from mtlkit.weighting.graddrop import GradDrop
from mtlkit.weighting.gradients import Direction, GradientRule
from mtlkit.weighting.gradnorm import GradNorm
from mtlkit.weighting.gradvac import GradVac
from mtlkit.weighting.imtl import IMTL, IMTLGradient, IMTLLoss
from mtlkit.weighting.l2rw import L2RW
from mtlkit.weighting.mgda import MGDA
from mtlkit.weighting.nash_mtl import NashMTL
from mtlkit.weighting.ol_aux import OLAux
from mtlkit.weighting.pcgrad import PCGrad
from mtlkit.weighting.rgw import RandomGradientWeighting, RandomLossesBefore
from mtlkit.weighting.rlw import RandomLossWeighting
from mtlkit.weighting.rotograd import RotoGrad
from mtlkit.weighting.slgrad import SLGrad
from mtlkit.weighting.slgrad_task import TaskLevelSLGrad
from mtlkit.weighting.stch import SmoothTchebycheff
from mtlkit.weighting.upgrad import UPGrad
from mtlkit.weighting.uw import UncertaintyWeighting

METHODS: dict[str, type[Weighting]] = {
    "ew": EqualWeighting,
    "rlw": RandomLossWeighting,
    "uw": UncertaintyWeighting,
    "dwa": DynamicWeightAverage,
    "gls": GeometricLoss,
    "imtl_l": IMTLLoss,
    "famo": FAMO,
    "stch": SmoothTchebycheff,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "cagrad": CAGrad,
    "imtl_g": IMTLGradient,
    "imtl": IMTL,
    "nash_mtl": NashMTL,
    "fairgrad": FairGrad,
    "aligned_mtl": AlignedMTL,
    "upgrad": UPGrad,
    "gradnorm": GradNorm,
    "rgw": RandomGradientWeighting,
    "graddrop": GradDrop,
    "db_mtl": DBMTL,
    "rotograd": RotoGrad,
    "cosine": CosineSimilarity,
    "cosine_weighted": WeightedCosineSimilarity,
    "ol_aux": OLAux,
    "slgrad": SLGrad,
    "slgrad_task": TaskLevelSLGrad,
    "aligned_selection": AlignedSelection,
    "auto_lambda": AutoLambda,
    "moml": MOML,
    "l2rw": L2RW,
    "main": MainTask,
    "oracle": Oracle,
    "label_consistency": LabelConsistency,
}

RANDOM_FIRST = "rlw+"
"""Before the name of a method on gradients: random loss weights first, as in `rlw+cagrad`."""


def build(name: str, tasks: int, parameters: Mapping[str, Any] = MappingProxyType({})) -> Weighting:
    """The method called `name`, given those of `parameters` that it has an option for.

    Args:
        name: A key of `METHODS`, or `rlw+` and the name of a `GradientRule`.
        tasks: T >= 1.
        parameters: Options by name; those of other methods are left alone. `options`, a text such as
            `"c=0.4 rescale=2"`, names options of this method, strictly.

    Raises:
        MtlkitError: Unknown name, or an option that the method does not have or that is outside its range.
    """
    if tasks < 1:
        raise MtlkitError(f"tasks is {tasks!r}, which is not at least 1.")
    method = find(name)
    known = option_types(name)
    given = {key: value for key, value in parameters.items() if key in known}
    chosen = given | _parsed(name, parameters.get("options", ""), known, given)
    if not name.startswith(RANDOM_FIRST):
        return method(tasks, **chosen)
    mine, random = ({key: value for key, value in chosen.items() if key in _options(one)}
                    for one in (method, RandomLossWeighting))  # fmt: skip
    return RandomLossesBefore(RandomLossWeighting(tasks, **random), method(tasks, **mine))


def find(name: str) -> type[Weighting]:
    """The class of a method; for `rlw+x` that of `x`.

    Raises:
        MtlkitError: There is none, or it cannot come after random loss weights.
    """
    if name.startswith(RANDOM_FIRST):
        after = [key for key, method in METHODS.items() if issubclass(method, GradientRule)]
        one_of(f"weighting after {RANDOM_FIRST}", name.removeprefix(RANDOM_FIRST), after)
        return METHODS[name.removeprefix(RANDOM_FIRST)]
    one_of("weighting", name, METHODS)
    return METHODS[name]


def option_types(name: str) -> dict[str, type]:
    """The options of a method and their types."""
    found = _options(find(name))
    return found | _options(RandomLossWeighting) if name.startswith(RANDOM_FIRST) else found


def _options(method: type[Weighting]) -> dict[str, type]:
    signature = inspect.signature(method, eval_str=True).parameters
    return {key: value.annotation for key, value in signature.items() if key != "tasks"}


def _parsed(name: str, text: str, known: Mapping[str, type], taken: Iterable[str]) -> dict[str, Any]:
    """`"c=0.4 rescale=2"` as options of the right types."""
    found: dict[str, Any] = {}
    for part in text.replace(",", " ").split():
        key, equals, value = part.partition("=")
        if not equals:
            raise MtlkitError(f"options is {text!r}; write name=value, several with spaces between them.")
        if key in taken:
            raise MtlkitError(f"{key} is a parameter of its own; set it there, not in options.")
        if key not in known:
            there = ", ".join(known) or "none"
            raise MtlkitError(f"{name} has no option {key!r}; it has {there}{suggestion(key, known)}.")
        found[key] = _typed(key, value, known[key])
    return found


def _typed(key: str, value: str, kind: type) -> Any:
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind is not bool:
            return kind(value)
    except ValueError:
        pass
    wanted = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
    raise MtlkitError(f"{key} is {value!r}, which is not {wanted}.")


__all__ = ["METHODS", "AlignmentRule", "Bilevel", "Direction", "GradientRule", "RandomLossesBefore", "Rule", "Signal",
           "Weighting", "build", "find", "option_types", "share_out", "spread",
           *(method.__name__ for method in METHODS.values())]  # fmt: skip
