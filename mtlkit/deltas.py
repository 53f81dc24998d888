"""One number for many metrics: how much better than a baseline a method is, in per cent.

Two conventions that look alike and cannot be compared: Delta_p gives every task the same weight and is better when
higher; Delta_m gives every metric the same weight, so that normals count five times in nine on NYUv2, and is better
when lower.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from mtlkit.errors import MtlkitError

Metrics = Mapping[str, Mapping[str, float]]
"""Values by task and metric."""


def delta_p(metrics: Metrics, baseline: Metrics, higher_is_better: Mapping[str, bool],
            tasks: Mapping[str, Sequence[str]]) -> float:  # fmt: skip
    """Mean relative improvement over the baseline in per cent, over the metrics of a task and then over tasks.

    `Delta_p = 100 / T sum_t 1 / N_t sum_n s_tn (M_tn - B_tn) / B_tn`, s = 1 if higher is better, else -1: RLW (Lin et
    al., arXiv 2111.10603), where the baseline is equal weighting. The sign is what its numbers and LibMTL have; as
    printed there the exponent gives the opposite.

    Args:
        metrics: Of the method; may hold more than is used.
        baseline: Of the baseline, all of them positive.
        higher_is_better: By name of the metric.
        tasks: The metrics that count, N_t for each of T tasks.

    Raises:
        MtlkitError: A metric is missing on one side, or a baseline is not positive.
    """
    return fmean(map(fmean, _improvements(metrics, baseline, higher_is_better, tasks)))


def delta_m(metrics: Metrics, baseline: Metrics, higher_is_better: Mapping[str, bool],
            tasks: Mapping[str, Sequence[str]]) -> float:  # fmt: skip
    """Mean relative loss against the baseline in per cent, over the metrics of all tasks; lower is better.

    `Delta_m = -100 / sum_t N_t sum_t sum_n s_tn (M_tn - B_tn) / B_tn`: Nash-MTL (Navon et al., arXiv 2202.01017), where
    the baseline is one network per task. Arguments and errors are those of `delta_p`.
    """
    return -fmean(one for task in _improvements(metrics, baseline, higher_is_better, tasks) for one in task)


def _improvements(metrics: Metrics, baseline: Metrics, higher_is_better: Mapping[str, bool],
                  tasks: Mapping[str, Sequence[str]]) -> list[list[float]]:  # fmt: skip
    """Of every metric of every task, in per cent of the baseline."""
    improvements = []
    for task, names in tasks.items():
        improvements.append([])
        for name in names:
            for side, values in (("the metrics", metrics), ("the baseline", baseline)):
                if name not in values.get(task, {}):
                    raise MtlkitError(f"{name} of the task {task!r} is missing from {side}; both sides need it.")
            if name not in higher_is_better:
                raise MtlkitError(f"higher_is_better does not say which way {name} is better.")
            value, base = metrics[task][name], baseline[task][name]
            if not base > 0:
                raise MtlkitError(f"{name} of the task {task!r} is {base!r} in the baseline; a relative change needs a "
                                  "positive number.")  # fmt: skip
            improvements[-1].append((100 if higher_is_better[name] else -100) * (value - base) / base)
    return improvements
