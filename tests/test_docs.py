"""The pages that `make docs` builds from the docstrings."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import mtlkit

MODULES = [mtlkit.__name__, *(one.name for one in pkgutil.walk_packages(mtlkit.__path__, "mtlkit.")
                              if not one.name.endswith("__main__"))]  # fmt: skip


def described() -> Iterator[tuple[str, str]]:
    """Every module, and every public class and function that it defines, with its docstring."""
    for name in MODULES:
        module = importlib.import_module(name)
        yield name, module.__doc__ or ""
        for key, one in vars(module).items():
            if (inspect.isclass(one) or inspect.isfunction(one)) and one.__module__ == name and key[0] != "_":
                text = one.__doc__ or ""
                yield f"{name}.{key}", "" if text.startswith(f"{key}(") else text  # dataclasses write their own


def test_everything_public_has_a_docstring() -> None:
    found = dict(described())
    assert len(found) > 400, "the walk goes through the package"
    assert not [name for name, text in found.items() if not text]


def test_backticks_come_in_pairs() -> None:
    """One that is not closed turns the rest of a paragraph into code."""
    assert not [
        (name, part) for name, text in described() for part in re.split(r"\n\s*\n", text) if part.count("`") % 2
    ]


def test_what_docstrings_name_exists() -> None:
    named = [(name, target) for name, text in described() for target in re.findall(r"`(mtlkit(?:\.\w+)+)`", text)]
    assert len(named) > 10
    assert not [(name, target) for name, target in named if not _exists(target)]


def _exists(target: str) -> bool:
    head, _, last = target.rpartition(".")
    return target in MODULES or (head in MODULES and hasattr(importlib.import_module(head), last))
