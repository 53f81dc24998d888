"""Strict parameters: every input ends in a checked value or in one sentence."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mtlkit import paths, studies
from mtlkit.errors import MtlkitError
from mtlkit.parameters import RULES, Parameters, check, checked, names_known, seeds
from mtlkit.weighting import METHODS, rlw, slgrad


def parameters_cell(experiment: str) -> str:
    """Source of the cell that Papermill injects after."""
    cells = json.loads((paths.NOTEBOOKS / f"{experiment}.ipynb").read_text())["cells"]
    (cell,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    return "".join(cell["source"])


def in_notebook(cell: str, *injected: str) -> Parameters:
    """What `check(globals())` says in a notebook with this parameters cell, after these cells."""
    namespace: dict[str, Any] = {"In": ["", cell, *injected]}
    for source in (cell, *injected):
        exec(source, namespace)
    return check(namespace)


CELL = """
weighting: str = "ew"
noise: float = 0.3  # a fraction
epochs: int = 8
fresh: bool = False
seeds: str = "0"
runs: str = ""
"""


def test_defaults() -> None:
    p = in_notebook(CELL)
    assert p == {"weighting": "ew", "noise": 0.3, "epochs": 8, "fresh": False, "seeds": [0], "runs": ""}
    assert p.noise == 0.3
    with pytest.raises(AttributeError, match="nosie"):
        _ = p.nosie


def test_injected_values_count() -> None:
    assert in_notebook(CELL, '# Parameters\nweighting = "rlw"\nnoise = 0\nseeds = "0-2"\n') == {
        "weighting": "rlw", "noise": 0.0, "epochs": 8, "fresh": False, "seeds": [0, 1, 2], "runs": ""}  # fmt: skip


def test_misspelt_name() -> None:
    with pytest.raises(MtlkitError, match=r"unknown parameter 'wieghting' \(did you mean 'weighting'\?\)\."):
        in_notebook(CELL, '# Parameters\nwieghting = "rlw"\n')
    with pytest.raises(MtlkitError, match=r"unknown parameter 'xyz'\.$"):
        in_notebook(CELL, "# Parameters\nepochs = 3\nxyz = 1\n")


def test_choices_of_one_notebook() -> None:
    namespace = {"__annotations__": {"network": str}, "network": "mlp"}
    assert check(namespace, network=["mlp"]).network == "mlp"
    with pytest.raises(MtlkitError, match=r"network is 'mlp', which is not one of lenet, light_lenet\."):
        check(namespace, network=["lenet", "light_lenet"])


def test_variables_of_other_cells_are_no_parameters() -> None:
    assert in_notebook(CELL, "scratch = 3").epochs == 8


@pytest.mark.parametrize(
    ("name", "kind", "value", "wanted"),
    [
        ("fresh", bool, "false", False),
        ("fresh", bool, "True", True),
        ("learning_rate", float, "1e-3", 1e-3),  # what YAML makes of 1e-3
        ("learning_rate", float, 1, 1.0),
        ("epochs", int, "12", 12),
        ("epochs", int, 12.0, 12),
        ("seeds", str, 3, [3]),  # what Papermill makes of -p seeds 3
        ("weighting", str, "SLGrad", "slgrad"),
        ("law", str, "Bernoulli", "bernoulli"),
        ("device", str, "CPU", "cpu"),
    ],
)
def test_clear_meanings_are_converted(name: str, kind: type, value: Any, wanted: Any) -> None:
    result = checked({name: value}, {name: kind})[name]
    assert result == wanted and type(result) is type(wanted)


@pytest.mark.parametrize(
    ("name", "kind", "value", "message"),
    [
        ("noise", float, 1.5, "noise is 1.5, which is not at least 0 and at most 1."),
        ("noise", float, -0.1, "noise is -0.1, which is not at least 0 and at most 1."),
        ("noise", float, "much", "noise is 'much', which is not a finite number."),
        ("learning_rate", float, "nan", "learning_rate is 'nan', which is not a finite number."),
        ("learning_rate", float, 0, "learning_rate is 0.0, which is not above 0."),
        ("momentum", float, 1, "momentum is 1.0, which is not at least 0 and below 1."),
        ("epochs", int, 0, "epochs is 0, which is not at least 1."),
        ("epochs", int, 2.5, "epochs is 2.5, which is not a whole number."),
        ("epochs", int, True, "epochs is True, which is not a whole number."),
        ("epochs", int, None, "epochs is None, which is not a whole number."),
        ("fresh", bool, 1, "fresh is 1, which is not True or False."),
        ("fresh", bool, "no", "fresh is 'no', which is not True or False."),
        ("weighting", str, True, "weighting is True, which is not a text."),
        ("weighting", str, "slgard", f"weighting is 'slgard', which is not one of {', '.join(METHODS)} "
                                     "(did you mean 'slgrad'?)."),
        ("device", str, "gpu", "device is 'gpu', which is not one of auto, cpu, cuda, cuda:1."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(name: str, kind: type, value: Any, message: str) -> None:
    with pytest.raises(MtlkitError) as error:
        checked({name: value}, {name: kind})
    assert str(error.value) == message


CHOICES = {"law": rlw.LAWS, "align": slgrad.ALIGN, "normalisation": slgrad.NORMALISATION, "strength": slgrad.STRENGTH,
           "group_shares": slgrad.GROUP_SHARES, "reference_loss": slgrad.REFERENCE_LOSS, "update": slgrad.UPDATE,
           "source": ("auto", "real", "builtin"), "optimizer": ("sgd", "adam")}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_those_of_the_code_that_uses_them(name: str) -> None:
    for value in CHOICES[name]:
        assert checked({name: value}, {name: str})[name] == value
    with pytest.raises(MtlkitError, match=f"{name} is 'nonsense', which is not one of {', '.join(CHOICES[name])}"):
        checked({name: "nonsense"}, {name: str})


@pytest.mark.parametrize(
    ("devices", "value", "wanted"),
    [(0, "auto", "cpu"), (2, "auto", "cuda"), (2, "cuda:1", "cuda:1"), (0, "cuda", None), (2, "cuda:2", None)],
)
def test_device(devices: int, value: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    if wanted:
        assert checked({"device": value}, {"device": str}).device == wanted
    else:
        with pytest.raises(MtlkitError, match=f"device is '{value}', but this machine has {devices} CUDA devices"):
            checked({"device": value}, {"device": str})


@pytest.mark.parametrize(
    ("text", "wanted"), [("0", [0]), ("0-3", [0, 1, 2, 3]), (" 4 , 0-1,7 - 7", [4, 0, 1, 7]), (5, [5])]
)
def test_seeds(text: Any, wanted: list) -> None:
    assert seeds(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "a", "-1", "3-1", "0..8", "1,", "1.5", "0-8-9", "9" * 30, "9" * 5000, "0-9999999999999"]
)
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(MtlkitError, match="seeds is "):
        seeds(text)


TYPES: dict[str, type] = {"tasks": int, "kind": str, "input_dimension": int}
exec(parameters_cell("cifar_flip"), notebook := {})
TYPES |= notebook["__annotations__"]

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3),
                   st.lists(st.integers(), max_size=2), st.integers().map(str), st.floats().map(str))  # fmt: skip


@given(st.sampled_from(sorted(TYPES)), VALUES)
@example("epochs", 10**400)
@example("learning_rate", -(10**400))
@example("epochs", "1" * 5000)
def test_nothing_ends_in_anything_but_a_value_or_a_sentence(name: str, value: Any) -> None:
    try:
        result = checked({name: value}, {name: TYPES[name]})[name]
    except MtlkitError as error:
        assert name in str(error) and "\n" not in str(error)
    else:
        assert type(result) is (list if name == "seeds" else TYPES[name])


FILES = sorted(paths.PARAMS.glob("*.*.yaml"))
CELLS = [
    (s, scale, c, a) for s in map(studies.load, studies.names()) for scale in s.scales for c, a in s.at(scale).cells()
]


def accepted(experiment: str, values: dict[str, Any]) -> Parameters:
    """The values as the notebook would check them."""
    names_known(values, [node.target.id for node in ast.parse(parameters_cell(experiment)).body])
    return in_notebook(
        parameters_cell(experiment), "# Parameters\n" + "\n".join(f"{k} = {v!r}" for k, v in values.items())
    )


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_parameter_files_suit_their_notebook(file: Path) -> None:
    experiment = file.name.split(".")[0]
    assert accepted(experiment, studies.read_yaml(file))


def test_every_cell_of_every_study_suits_its_notebook() -> None:
    assert CELLS
    for study, scale, condition, arm in CELLS:
        p = accepted(study.experiment, study.parameters(scale, condition, arm))
        assert p.seeds == study.seeds(scale) and p.learning_rate > 0


@pytest.mark.parametrize("experiment", sorted({file.name.split(".")[0] for file in FILES}))
def test_every_parameter_has_a_rule(experiment: str) -> None:
    """A number needs a range and a text its choices, but for free texts and what each data set checks itself."""
    exec(parameters_cell(experiment), namespace := {})
    kinds = namespace["__annotations__"]
    free = {"data_root", "runs", "study", "condition", "arm", "noise_kind", "options"}
    free |= {"methods", "networks", "task_counts", "studies"}
    free |= {"split", "size", "main", "dataset", "train_on", "problem", "languages", "encoder"}
    assert {name for name, kind in kinds.items() if kind is not bool} - free <= RULES.keys()
