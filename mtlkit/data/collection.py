"""A data set as it lies below the data root: how it is found, prepared, and asked for its status."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlkit import paths
from mtlkit.data.sources import Field, Size, Source
from mtlkit.data.stored import Maps, open_prepared, prepare
from mtlkit.errors import MtlkitError, one_of

NOISY = ("main", "auxiliary", "all")


def noisy(which: str, tasks: int) -> list[int]:
    """The tasks that `main`, `auxiliary` and `all` stand for. Raises `MtlkitError` for another word."""
    one_of("noisy_tasks", which, NOISY)
    return {"main": [0], "auxiliary": list(range(1, tasks)), "all": list(range(tasks))}[which]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A data set of images, and how it is found.

    Attributes:
        name: Of the data set.
        title: As people call it.
        expected: The layouts that `find` knows, in words.
        find: `find(root) -> Source`, None where there is nothing.
        variants: What `find` may find, the first first.
        size: (H, W) as published.
        stand_in: What is used where it is not at hand, in words that follow "using"; empty where there is nothing.
    """

    name: str
    title: str
    url: str
    licence: str
    expected: str
    find: Callable[[Path], Source | None]
    variants: tuple[str, ...]
    fields: tuple[Field, ...]
    size: Size
    stand_in: str

    def at_hand(self, source: str, data_root: str, size: Size) -> Maps | None:
        """The real data at a size, prepared if they are not yet; None where the stand-in is to be used, which a line on
        stderr says if the source is `auto`.

        Raises:
            MtlkitError: An unknown source, or damaged data, or neither data nor stand-in.
        """
        one_of("source", source, ("auto", "real", "builtin"))
        root = paths.data_root(data_root)
        maps = None if source == "builtin" else self._prepared_maps(root, size)
        if maps is None and (source == "real" or not self.stand_in):
            raise self._missing(root)
        if maps is None and source == "auto":
            print(f"NOTE: {self.title} is not below {root}: using {self.stand_in} as a stand-in (source: auto). "
                  f"`{self._command}` converts the real data.", file=sys.stderr)  # fmt: skip
        return maps

    def prepare(self, data_root: str = "") -> Path:
        """Convert the data set at its published size, unless that is done; returns its folder. Nothing is downloaded.

        Raises:
            MtlkitError: There is no source or it is damaged, or the writing fails.
        """
        root = paths.data_root(data_root)
        found = self.find(root)
        if found is None:
            raise self._missing(root)
        return prepare(found, self.size, folder_of(root))

    def status(self, data_root: str = "") -> dict[str, Any]:
        """Whether the data set is below the data root, as which variant, and how to get it; `problem` tells of
        damage."""
        root, found, problem = paths.data_root(data_root), None, None
        try:
            found = self.find(root)
        except MtlkitError as error:
            problem = str(error)
        prepared = [path for variant in self.variants for path in self._prepared(root, variant, self.size)]
        path = found.files[0].parent if found else prepared[0] if prepared else None
        return {
            "name": self.name,
            "found": path is not None,
            "variant": found.variant if found else path and path.name.rsplit("-", 2)[0],
            "path": path and str(path),
            "problem": problem,
            "expected": self.expected,
            "source_url": self.url,
            "licence": self.licence,
            "how_to_prepare": self._command,
        }

    @property
    def _command(self) -> str:
        return f"python -m mtlkit data prepare {self.name}"

    def _missing(self, root: Path) -> MtlkitError:
        return MtlkitError(f"{self.title} is not below {root} (parameter data_root or environment variable "
                           f"MTLKIT_DATA): expected is {self.expected}; it comes from {self.url}, `{self._command}` "
                           f"converts it, and source: builtin {'does without' if self.stand_in else 'has none such'}."
                           )  # fmt: skip

    def _prepared(self, root: Path, variant: str, size: Size) -> list[Path]:
        """Sets that were prepared from any source of a variant, the latest first."""
        there = folder_of(root).glob(f"{variant}-{size[0]}x{size[1]}-{'[0-9a-f]' * 16}")
        return sorted(there, key=lambda path: -path.stat().st_mtime_ns)

    def _prepared_maps(self, root: Path, size: Size) -> Maps | None:
        """From the source, prepared if it is not yet; else a set that was prepared from one that has gone."""
        found = self.find(root)
        if found is not None:
            return open_prepared(prepare(found, size, folder_of(root)))
        there = (path for variant in self.variants for path in self._prepared(root, variant, size))
        return next(map(open_prepared, there), None)


def folder_of(root: Path) -> Path:
    """Where prepared sets lie: in `prepared` below the data root, or, where that is read-only, below the repository's
    `data`. A folder without write permission counts as read-only to a superuser too, who could write there."""
    writable = os.access(root, os.W_OK) and root.stat().st_mode & 0o222
    return (root if writable else paths.ROOT / "data") / "prepared"
