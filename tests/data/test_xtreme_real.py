"""XTREME's files themselves, where there are any."""

from pathlib import Path

import pytest

from mtlkit.data import xtreme
from mtlkit.data.sentences import PROBLEMS
from mtlkit.data.word_pieces import IGNORE

SENTENCES = {"udpos": {"en": 21787, "te": 1051}, "panx": {"en": 20000}, "pawsx": {"en": 2000}, "xnli": {"en": 2490}}


@pytest.fixture(scope="module")
def xtreme_root(data_root: Path) -> Path:
    if not (data_root / "xtreme").is_dir():
        pytest.skip("needs XTREME's files below the data root (xtreme/<problem>/<split>-<language>.tsv)")
    return data_root


@pytest.mark.parametrize("problem", PROBLEMS)
def test_real_sets(xtreme_root: Path, problem: str) -> None:
    data = xtreme.load(0, problem=problem, source="real", data_root=str(xtreme_root), train=50, held_out=40)
    assert data.variant.startswith(f"xtreme-{problem}") and data.task_names == list(PROBLEMS[problem].languages)
    for name in ("train", "test"):
        for part in getattr(data, name).parts:
            labels = part.targets[part.targets != IGNORE]
            assert labels.min() >= 0 and len(labels.unique()) > 1
            assert len(part) >= 40 or name == "train"
    assert data.facts["length"] <= 128


@pytest.mark.parametrize("problem", PROBLEMS)
def test_real_files_are_whole(xtreme_root: Path, problem: str) -> None:
    split = "dev" if PROBLEMS[problem].pairs else "train"
    for code, count in SENTENCES[problem].items():
        path = xtreme_root / "xtreme" / problem / f"{split}-{code}.tsv"
        assert len(xtreme.read(path, PROBLEMS[problem])) == count
