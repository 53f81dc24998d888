"""Studies: which runs a comparison consists of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mtlkit import paths
from mtlkit.errors import MtlkitError, check_names, one_of, suggestion
from mtlkit.metrics import LABELS
from mtlkit.parameters import seeds


@dataclass(frozen=True)
class Study:
    """`params/studies/<name>.yaml`: conditions x arms x seeds of one experiment.

    Attributes:
        name: Of the file.
        experiment: The notebook.
        baseline: The arm that others are compared with.
        scales: Scale -> overrides of `params/<experiment>.<scale>.yaml`, `seeds`, `chunk`, the number of seeds that one
            execution of the notebook does (default all), `gpu_mb`, what one takes of a GPU's memory in MB (default
            2000), `conditions`, where it does not have all, `rates`, where tuning tries others than elsewhere, and
            `rates_of`, another scale whose tuned learning rates are used. A scale without takes those tuned in it.
        conditions: Condition -> `label` and parameters.
        arms: Arm -> `label` and parameters; `conditions` where it is not run in all; `rates_as`, the arm at whose tuned
            learning rate it runs; `rate_factor`, by which the grid of rates is multiplied; `more_rates`, by which it is
            extended. In the file, `{as: STUDY}` takes those of another study.
        tuning: `rates`, `seeds`, `conditions`, `metric`; or `metric`, and `as`, a study whose tuned rates are used.
        committed: The scale whose records lie in `figures/records/`.
        tables: What the tables are about, `main_task` or `every_task`.
        delta: What tables of every task count: `metrics` (default all but the loss); `condition`, whose baseline all
            conditions are compared with (default each with its own); `single_task`, task -> the arm that is trained on
            it alone, for deltas to these as well.
        figures: More figures than the usual ones: `boxes`.
        again: What was changed after a look at first runs, a sentence that goes with every claim on the study.
    """

    name: str
    experiment: str
    baseline: str
    scales: Mapping[str, Mapping[str, Any]]
    conditions: Mapping[str, Mapping[str, Any]]
    arms: Mapping[str, Mapping[str, Any]]
    tuning: Mapping[str, Any]
    committed: str = "desk"
    tables: str = "main_task"
    delta: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[str] = ()
    again: str = ""

    def seeds(self, scale: str) -> list[int]:
        """The seeds of a scale."""
        return seeds(self.scale(scale)["seeds"])

    def scale(self, scale: str) -> Mapping[str, Any]:
        if scale not in self.scales:
            near = suggestion(scale, self.scales)
            raise MtlkitError(f"study {self.name} has no scale {scale!r}{near}; it has {', '.join(self.scales)}.")
        return self.scales[scale]

    def at(self, scale: str) -> "Study":
        """The study with the conditions that a scale has."""
        names = self.scale(scale).get("conditions", self.conditions)
        for name in names:
            one_of(f"a condition of study {self.name}, scale {scale},", name, self.conditions)
        kept = {name: self.conditions[name] for name in names}
        arms = {name: arm | {"conditions": [one for one in arm.get("conditions", kept) if one in kept]}
                for name, arm in self.arms.items()}  # fmt: skip
        return replace(self, conditions=kept, arms=arms)

    def label(self, name: str) -> str:
        """How an arm or a condition is called in tables."""
        return (self.arms.get(name) or self.conditions[name])["label"]

    def cells(self) -> list[tuple[str, str]]:
        """All (condition, arm) pairs that are run."""
        return [(c, a) for a, arm in self.arms.items() for c in arm.get("conditions", self.conditions)]

    def executions(self, scale: str) -> list[tuple[str, str, str]]:
        """All (seeds, condition, arm) that are run, a chunk of seeds after the other."""
        numbers = self.seeds(scale)
        size = self.scale(scale).get("chunk", len(numbers))
        chunks = [",".join(map(str, numbers[start : start + size])) for start in range(0, len(numbers), size)]
        return [(chunk, condition, arm) for chunk in chunks for condition, arm in self.at(scale).cells()]

    def parameters(self, scale: str, condition: str, arm: str, rate: float | None = None) -> dict[str, Any]:
        """The notebook parameters of one cell: base file, scale, condition, arm, and the learning rate.

        Args:
            scale: Names the base file `params/<experiment>.<scale>.yaml`.
            condition: One of `conditions`.
            arm: One of `arms`.
            rate: A rate that is being tried; None takes the tuned one, before tuning the base file's, and if it has
                none, the notebook's own.
        """
        chosen, overrides = self.arms[arm], self.scale(scale)
        base = read_yaml(paths.PARAMS / f"{self.experiment}.{scale}.yaml")
        parts = (base, overrides, self.conditions[condition], chosen)
        merged = {key: value for part in parts for key, value in part.items() if key not in NOT_PARAMETERS}
        factor = chosen.get("rate_factor", 1)
        if rate is None:
            tuned = self.tuned(scale).get(chosen.get("rates_as", arm), {})
            untuned = merged["learning_rate"] * factor if "learning_rate" in merged else None
            rate = tuned.get("learning_rate", untuned)
        else:
            rate *= factor
        return merged if rate is None else merged | {"learning_rate": rate}

    def rates_from(self, scale: str) -> str:
        """Whose tuned learning rates are used at a scale, `study NAME` or `scale NAME`; empty for its own."""
        if "as" in self.tuning:
            return f"study {self.tuning['as']}"
        other = self.scale(scale).get("rates_of")
        return f"scale {other}" if other else ""

    def tuned_arms(self, scale: str) -> list[str]:
        """The arms whose learning rate is tuned at a scale; none where rates of elsewhere are used."""
        return [] if self.rates_from(scale) else [name for name, arm in self.arms.items() if "rates_as" not in arm]

    def rates(self, scale: str, arm: str) -> list[float]:
        """What tuning tries for an arm: the scale's own rates, or the common grid with the arm's `more_rates`."""
        own = self.scale(scale).get("rates")
        return sorted(own or [*self.tuning["rates"], *self.arms[arm].get("more_rates", ())])

    def tuned(self, scale: str) -> dict[str, dict[str, Any]]:
        """Arm -> tuned parameters, from `params/tuned/<study>.<scale>.yaml`; empty before tuning."""
        scale = self.scale(scale).get("rates_of", scale)
        path = paths.PARAMS / "tuned" / f"{self.tuning.get('as', self.name)}.{scale}.yaml"
        if not path.is_file():
            return {}
        arms = _parts(path.name, "arms", read_yaml(path).get("arms"))
        for name, arm in arms.items():
            _kind(f"{path.name}: learning_rate of {name}", arm.get("learning_rate"), int | float)
        return arms


NOT_PARAMETERS = (
    "label", "conditions", "rates_as", "rate_factor", "more_rates", "rates", "rates_of", "chunk", "gpu_mb",
)  # fmt: skip
"""What a scale, an arm or a condition says apart from notebook parameters."""


def load(name: str) -> Study:
    """The study called `name`."""
    path = paths.PARAMS / "studies" / f"{name}.yaml"
    if not path.is_file():
        raise MtlkitError(f"there is no study {name!r}{suggestion(name, names())}; there are {', '.join(names())}.")
    content = read_yaml(path)
    needed = {"experiment", "baseline", "scales", "conditions", "arms", "tuning"}
    optional = {"committed", "tables", "delta", "figures", "again"}
    wrong = (needed - content.keys()) | (content.keys() - needed - optional)
    if wrong:
        raise MtlkitError(f"{path.name} lacks or should not have: {', '.join(sorted(map(str, wrong)))}.")
    if isinstance(content["arms"], dict) and "as" in content["arms"]:
        check_names(f"{path.name}, arms", content["arms"], {"as": True})
        content["arms"] = load(content["arms"]["as"]).arms
    _check(path.name, content)
    return Study(name, **content)


def _check(file: str, content: Mapping[str, Any]) -> None:
    """Raise unless the parts of a study are what they should be, and name each other."""
    arms, conditions = (_parts(file, part, content[part], label=True) for part in ("arms", "conditions"))
    scales = _parts(file, "scales", content["scales"])
    one_of(f"baseline ({file})", content["baseline"], arms)
    _kind(f"{file}: experiment", content["experiment"], str)
    tuning = _kind(f"{file}: tuning", content["tuning"], dict)
    own = "as" not in tuning
    for name, scale in scales.items():
        seeds(scale.get("seeds", ""))
        for number in ("chunk", "gpu_mb"):
            if _kind(f"{file}: {number} of {name}", scale.get(number, 1), int) < 1:
                raise MtlkitError(f"{file}: {number} of {name} is {scale[number]}, which is not at least 1.")
        _some(f"a condition of {name} ({file})", scale.get("conditions", []), conditions)
        for rate in _kind(f"{file}: rates of {name}", scale.get("rates", []), list):
            _kind(f"{file}: a rate of {name}", rate, int | float)
        if "rates_of" in scale:
            tuned_at = [other for other in scales if "rates_of" not in scales[other]]
            one_of(f"rates_of of {name} ({file})", scale["rates_of"], tuned_at)
        if "rates" in scale and ("rates_of" in scale or not own):
            raise MtlkitError(f"{file}: {name} takes the rates of elsewhere, so it should not have `rates` of its own.")
    for name, arm in arms.items():
        _some(f"a condition of {name} ({file})", arm.get("conditions", []), conditions)
        if own:
            one_of(f"rates_as of {name} ({file})", arm.get("rates_as", name), arms)
        for number in (
            arm.get("rate_factor", 1),
            *_kind(f"{file}: more_rates of {name}", arm.get("more_rates", []), list),
        ):
            _kind(f"{file}: a rate of {name}", number, int | float)
    check_names(
        f"{file}, tuning",
        tuning,
        {"metric": False, "as": not own} | dict.fromkeys(("rates", "seeds", "conditions"), own),
    )
    if own:
        seeds(tuning["seeds"])
        _some(f"a condition of tuning ({file})", tuning["conditions"], conditions)
        for rate in _kind(f"{file}: rates", tuning["rates"], list):
            _kind(f"{file}: a rate of tuning", rate, int | float)
    else:
        _kind(f"{file}: as", tuning["as"], str)
    one_of(f"the metric of tuning ({file})", tuning.get("metric", "loss"), LABELS)
    one_of(f"tables ({file})", content.get("tables", "main_task"), ("main_task", "every_task"))
    _kind(f"{file}: committed", content.get("committed", "desk"), str)
    _kind(f"{file}: again", content.get("again", ""), str)
    _some(f"a figure ({file})", content.get("figures", []), ("boxes",))
    delta = content.get("delta", {})
    check_names(f"{file}, delta", delta, dict.fromkeys(("metrics", "condition", "single_task"), False))
    _some(f"a metric of delta ({file})", delta.get("metrics", []), LABELS)
    single = _kind(f"{file}: single_task of delta", delta.get("single_task", {}), dict)
    _some(f"an arm of delta ({file})", list(single.values()), arms)
    if "condition" in delta:
        one_of(f"the condition of delta ({file})", delta["condition"], conditions)


def _parts(file: str, part: str, content: object, *, label: bool = False) -> dict[str, dict[str, Any]]:
    """The arms, conditions or scales of a study: mappings by name, with a label."""
    for name, one in _kind(f"{file}: {part}", content, dict).items():
        _kind(f"{file}: a name in {part}", name, str)
        _kind(f"{file}: {name}", one, dict)
        if label:
            _kind(f"{file}: label of {name}", one.get("label"), str)
    if not content:
        raise MtlkitError(f"{file} has no {part}.")
    return content


def _some(name: str, values: object, choices: Iterable[str]) -> None:
    for value in _kind(f"what should list {name}", values, list):
        one_of(name, value, choices)


def _kind(where: str, value: Any, kind: type) -> Any:
    """`value`, if it is of this kind."""
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {dict: "a mapping", list: "a list", str: "a text", int: "a whole number"}.get(kind, "a number")
        raise MtlkitError(f"{where} is {value!r}, which should be {wanted}.")
    return value


def names() -> list[str]:
    """All studies."""
    return sorted(path.stem for path in (paths.PARAMS / "studies").glob("*.yaml"))


def read_yaml(path: Path, kind: type = dict) -> Any:
    """A YAML file that holds a mapping, or, as `kind`, a list.

    Raises:
        MtlkitError: It is missing or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:  # a date may be none, say
        said = f": {' '.join(str(error).split())}" if isinstance(error, yaml.YAMLError) else ""
        raise MtlkitError(f"{path} cannot be read as YAML ({type(error).__name__}{said}).") from None
    if not isinstance(content, kind):
        raise MtlkitError(f"{path} does not hold {'`name: value` lines' if kind is dict else 'a list'}.")
    return content
