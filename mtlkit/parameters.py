"""Strict notebook parameters: typed, checked before anything runs, with a suggestion where a name is misspelt."""

import ast
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mtlkit.errors import MtlkitError, one_of, suggestion

INJECTED = "# Parameters"
"""How Papermill's injected cell begins."""


class Parameters(dict):
    """Checked parameters, as a dictionary whose entries are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def check(namespace: Mapping[str, Any], **choices: Iterable[str]) -> Parameters:
    """The parameters of the notebook whose `globals()` these are.

    The parameters cell says which there are and of what type: one annotated literal a line. Values that Papermill
    injects are held against it: an unknown name, a value of another type, and a value outside its choices or range are
    errors. Text is converted where its meaning is clear (`-p flag false`, `learning_rate: 1e-3` in YAML).

    Args:
        namespace: The notebook's.
        **choices: What a parameter may be in this notebook, where that is less than in others.

    Raises:
        MtlkitError: The first thing that is wrong, in one sentence.
    """
    types = namespace.get("__annotations__", {})
    cells = [cell for cell in namespace.get("In", []) if cell.startswith(INJECTED)]
    names_known([name for cell in cells for name in _assigned(cell)], types)
    result = checked({name: namespace[name] for name in types}, types)
    for name, known in choices.items():
        one_of(name, result[name], known)
    return result


def names_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first of `names` that is not among `known`."""
    known = list(known)
    for name in names:
        if name not in known:
            raise MtlkitError(f"unknown parameter {name!r}{suggestion(name, known)}.")


def checked(values: Mapping[str, Any], types: Mapping[str, type]) -> Parameters:
    """Values converted to their types and held against their choices and ranges; `seeds` becomes a list of numbers."""
    result = Parameters({name: _typed(name, value, types[name]) for name, value in values.items()})
    for name, rule in RULES.items():
        if name in result:
            result[name] = rule(name, result[name])
    return result


def seeds(text: str) -> list[int]:
    """`"3"`, `"0-8"`, `"0,2,5-7"` as a list of numbers of at most six digits."""
    numbers: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            shown = textwrap.shorten(str(text), 60)
            raise MtlkitError(
                f"seeds is {shown!r}, which is not a list of whole numbers and ranges such as 0-8 or 0,3,5."
            )
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return numbers


def _assigned(cell: str) -> list[str]:
    targets = [target for node in ast.parse(cell).body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is str and not isinstance(value, bool) and isinstance(value, str | int):
        return str(value)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind in (int, float) and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and (kind is float or number == int(number)):
            return kind(number)
    wanted = {str: "a text", bool: "True or False", int: "a whole number", float: "a finite number"}
    raise MtlkitError(f"{name} is {value!r}, which is not {wanted[kind]}.")


def _choice(*choices: str) -> Callable[[str, str], str]:
    def rule(name: str, value: str) -> str:
        one_of(name, value.lower(), choices)
        return value.lower()

    return rule


def _range(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[str, Any], Any]:
    """Between `low` and `high`, these included unless `above` low and `below` high."""

    def rule(name: str, value: Any) -> Any:
        inside = (value > low if above else value >= low) and (value < high if below else value <= high)
        if not inside:
            lower = f"{'above' if above else 'at least'} {low:g}"
            upper = "" if high == math.inf else f" and {'below' if below else 'at most'} {high:g}"
            raise MtlkitError(f"{name} is {value!r}, which is not {lower}{upper}.")
        return value

    return rule


def _weighting(name: str, value: str) -> str:
    from mtlkit.weighting import find

    find(value.lower())
    return value.lower()


def _network(name: str, value: str) -> str:
    from mtlkit.nets import EVERY

    return _choice(*EVERY)(name, value)


def _device(name: str, value: str) -> str:
    import torch

    value = value.lower()
    if value == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise MtlkitError(f"device is {value!r}, which is not one of auto, cpu, cuda, cuda:1.")
    if value != "cpu" and int(value.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise MtlkitError(f"device is {value!r}, but this machine has {torch.cuda.device_count()} CUDA devices.")
    return value


_COUNT = _range(1)
RULES: dict[str, Callable[[str, Any], Any]] = {
    "weighting": _weighting,
    "network": _network,
    "law": _choice("normal", "uniform", "random_normal", "dirichlet", "bernoulli", "bernoulli_k"),
    "device": _device,
    "seeds": lambda _, value: seeds(value),
    "source": _choice("auto", "real", "builtin"),
    "noise": _range(0, 1),
    "reference_noise": _range(0, 1),
    "reference_size": _range(0),
    "noisy_tasks": _choice("main", "auxiliary", "all"),
    "optimizer": _choice("sgd", "adam", "adamw"),
    "precision": _choice("float32", "bfloat16"),
    "train_data": _choice("train", "reference", "both"),
    "align": _choice("shared", "shared_and_main_head"),
    "normalisation": _choice("joint", "task", "task_label"),
    "group_shares": _choice("reference", "batch"),
    "strength": _choice("proportional", "sign"),
    "reference_loss": _choice("mean", "class_balanced"),
    "update": _choice("plain", "look_ahead", "published"),
    "test_images": _choice("all", "published"),
    "backbone": _choice("resnet18", "resnet50"),
    "pretrained": _choice("auto", "imagenet", "none"),
    "schedule": _choice("constant", "step", "poly", "linear", "cosine"),
    "judged": _choice("main", "all"),
    "averaging": _choice("pixels", "batches", "images"),
    "measure": lambda name, value: value and _choice("sharpness")(name, value),
    "unrelated": _choice("none", "random", "parity"),
    "kind": _choice("regression", "classification"),
    "learning_rate": _range(0, above=True),
    "momentum": _range(0, 1, below=True),
    "beta_1": _range(0, 1, below=True),
    "beta_2": _range(0, 1, below=True),
    "weight_decay": _range(0),
    "clip": _range(0),
    "held_out": _range(0),
    "max_length": _range(8),
    "reference_share": _range(0, 1, below=True),
    "main_class": _range(0, 9),
    "classes": _range(1),
    "shared_layers": _range(0),
    "related_std": _range(0),
    "many_tasks": _range(0),
    "workers": _range(0),
    "train": _range(0),
    "seconds": _range(0),
    **{name: _COUNT for name in ("tasks", "epochs", "batch_size", "reference_batch", "refresh", "evaluations",
                                 "evaluation_batch", "accumulate", "threads", "k", "head_layers", "head_width",
                                 "shared_width", "width", "vocabulary", "input_dimension", "output_dimension")},
}  # fmt: skip
