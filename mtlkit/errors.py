"""The one exception that users are meant to see."""

import difflib
from collections.abc import Iterable


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


def suggestion(value: object, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` without the question mark's sentence end, or an empty string."""
    near = difflib.get_close_matches(str(value), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
