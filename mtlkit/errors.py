"""The one exception that users are meant to see."""

import difflib
from collections.abc import Iterable, Mapping


class MtlkitError(Exception):
    """Bad input, said in one sentence: what is wrong and what would be right.

    In a notebook, and so under Papermill, it is shown as that sentence alone, without frames.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"MtlkitError: {self}"]


def one_of(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless `value` is among `choices`; the sentence names the nearest one."""
    choices = list(choices)
    if value not in choices:
        raise MtlkitError(f"{name} is {value!r}, which is not one of {', '.join(choices)}{suggestion(value, choices)}.")


def check_names(where: str, entry: object, names: Mapping[str, bool]) -> None:
    """Raise unless `entry`, a part of a file, is a mapping with some of `names`: all of those that are True."""
    if not isinstance(entry, dict):
        raise MtlkitError(f"{where}: {entry!r} should be a mapping with {', '.join(names)}.")
    for name in entry:
        one_of(f"a name ({where})", name, names)
    missing = [name for name, required in names.items() if required and name not in entry]
    if missing:
        raise MtlkitError(f"{where}: {', '.join(missing)} missing.")


def suggestion(value: object, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` without the question mark's sentence end, or an empty string."""
    near = difflib.get_close_matches(str(value), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
