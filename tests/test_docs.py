"""The pages that `make docs` builds from the docstrings."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import mtlkit

MODULES = [mtlkit.__name__, *(one.name for one in pkgutil.walk_packages(mtlkit.__path__, "mtlkit.")
                              if not one.name.endswith("__main__"))]  # fmt: skip


def defined() -> Iterator[tuple[str, Any]]:
    """Every public class and function, where it is defined."""
    for name in MODULES:
        for key, one in vars(importlib.import_module(name)).items():
            if (inspect.isclass(one) or inspect.isfunction(one)) and one.__module__ == name and key[0] != "_":
                yield f"{name}.{key}", one


def methods() -> Iterator[tuple[str, Any]]:
    """The public methods of public classes."""
    for name, one in defined():
        for key, part in vars(one).items() if inspect.isclass(one) else ():
            method = getattr(part, "__func__", part)
            if inspect.isfunction(method) and method.__module__ == one.__module__ and key[0] != "_":
                yield f"{name}.{key}", method


def described() -> Iterator[tuple[str, str]]:
    """Every module, and every public class and function that it defines, with its docstring."""
    for name in MODULES:
        yield name, importlib.import_module(name).__doc__ or ""
    for name, one in defined():
        text = one.__doc__ or ""
        yield name, "" if text.startswith(f"{one.__name__}(") else text  # dataclasses write their own


def test_everything_public_has_a_docstring() -> None:
    found = dict(described())
    assert len(found) > 400, "the walk goes through the package"
    assert not [name for name, text in found.items() if not text]


def test_backticks_come_in_pairs() -> None:
    """One that is not closed turns the rest of a paragraph into code."""
    assert not [
        (name, part) for name, text in described() for part in re.split(r"\n\s*\n", text) if part.count("`") % 2
    ]


def test_parameters_and_attributes_stand_in_their_sections() -> None:
    """Elsewhere the pages run lines `name: text` together into one paragraph."""
    assert len(list(methods())) > 200, "the walk goes through the classes"
    assert not [(name, line) for name, one in [*defined(), *methods()] for line in _loose(one)]


def test_what_docstrings_name_exists() -> None:
    named = [(name, target) for name, text in described() for target in re.findall(r"`(mtlkit(?:\.\w+)+)`", text)]
    assert len(named) > 10
    assert not [(name, target) for name, target in named if not _exists(target)]


def _exists(target: str) -> bool:
    head, _, last = target.rpartition(".")
    return target in MODULES or (head in MODULES and hasattr(importlib.import_module(head), last))


def _loose(one: Any) -> list[str]:
    """What is said of parameters and annotated attributes, `name: ...`, outside `Args:` and `Attributes:`."""
    called = one.__init__ if inspect.isclass(one) else one
    names = {*inspect.signature(called).parameters, *inspect.get_annotations(one)}
    text = inspect.cleandoc(one.__doc__ or "")
    text = re.sub(r"^(Args|Attributes):\n( .*\n?|\n(?= ))*", "", text, flags=re.M)
    said = re.finditer(r"(?:^ *|(?<=[.;] ))(\w+(?:, \w+)*):\s.*", text, flags=re.M)
    return [line[0] for line in said if names.intersection(line[1].split(", "))]
