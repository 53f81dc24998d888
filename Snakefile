# params -> runs -> records -> tables and figures. `make reproduce` and `make tune` call it.
#
# A run is one Papermill execution of a notebook with a chunk of the seeds of one (condition, arm); seeds whose record is
# there are not trained again, and one that was stopped goes on from its checkpoint. A cell whose parameters have changed,
# such as its tuned learning rate, is run again (`params` below).
import os
import time
from contextlib import suppress

from mtlkit import paths, studies
from mtlkit.errors import MtlkitError, one_of

SCALE = config.get("scale", "quick")
CHOSEN = [studies.load(name) for name in str(config.get("studies") or ",".join(studies.names())).split(",")]
STUDIES = {study.name: study for study in CHOSEN if SCALE in study.scales}
if not STUDIES:  # nothing would run, and that would look like success
    one_of("the scale", SCALE, dict.fromkeys(scale for study in CHOSEN for scale in study.scales))
RUNS = paths.runs() / SCALE
NOW = time.time()
for path in RUNS.rglob("*"):
    with suppress(OSError):  # of another process, which has moved it meanwhile
        if path.stat().st_mtime > NOW:  # the clock was set back: Snakemake would refuse what is made now as older
            os.utime(path, (NOW, NOW))
MINUTES = {"quick": 60}.get(SCALE, 24 * 60)
MTLKIT = "OMP_NUM_THREADS=1 python -m mtlkit"


def memory(wildcards, attempt):
    """MB of a training with what starts it; a job that was killed for want of it comes back with more."""
    return 1500 * attempt


def card(wildcards, attempt):
    """MB of a GPU that a training takes where there is one. `GPU_MB` in the Makefile bounds what runs take together."""
    return STUDIES[wildcards.study].scale(SCALE).get("gpu_mb", 2000) * attempt


def tuned(wildcards):
    names = [name for name, study in STUDIES.items() if study.tuned_arms(SCALE)]
    if not names:
        rest = ", ".join(f"{name} takes the rates of {study.rates_from(SCALE)}" for name, study in STUDIES.items())
        raise MtlkitError(f"there is nothing to tune at scale {SCALE}: {rest}.")
    return [RUNS / "tuning" / f"{name}.done" for name in names]


wildcard_constraints:
    study="[a-z0-9_]+",
    condition="[A-Za-z0-9_.]+",
    arm="[a-z0-9_]+",
    rate="[0-9.e-]+",
    seeds="[0-9_]+",


# On a cluster, trainings alone are jobs: what else there is takes seconds, and no GPU.
localrules: all, tune, draw, choose


rule all:
    input:
        [RUNS / "figures" / name / "done" for name in STUDIES],


rule tune:
    input:
        tuned,


rule draw:
    input:
        lambda w: [
            RUNS / "notebooks" / w.study / c / f"{a}-seeds{s.replace(',', '_')}.ipynb"
            for s, c, a in STUDIES[w.study].executions(SCALE)
        ],
    output:
        touch(RUNS / "figures" / "{study}" / "done"),
    shell:
        MTLKIT + " draw {wildcards.study} --scale " + SCALE


# Seeds are `0_1` in names of files: Snakemake cannot hand a wildcard with a comma on to a job on another machine.
rule cell:
    output:
        RUNS / "notebooks" / "{study}" / "{condition}" / "{arm}-seeds{seeds}.ipynb",
    params:
        seeds=lambda w: w.seeds.replace("_", ","),
        given=lambda w: str(STUDIES[w.study].parameters(SCALE, w.condition, w.arm)),
    resources:
        mem_mb=memory,
        gpu_mb=card,
        runtime=MINUTES,
    shell:
        MTLKIT + " cell {wildcards.study} {wildcards.condition} {wildcards.arm} --scale " + SCALE
        + " --seeds {params.seeds} -o {output}"


rule choose:
    input:
        lambda w: [
            RUNS / "tuning" / "notebooks" / w.study / c / f"{a}-{rate:g}.ipynb"
            for a in STUDIES[w.study].tuned_arms(SCALE)
            for rate in STUDIES[w.study].rates(SCALE, a)
            for c in STUDIES[w.study].tuning["conditions"]
        ],
    output:
        touch(RUNS / "tuning" / "{study}.done"),
    params:
        by=lambda w: str([STUDIES[w.study].tuning, STUDIES[w.study].scale(SCALE)]),
    shell:
        MTLKIT + " choose {wildcards.study} --scale " + SCALE


rule try_rate:
    output:
        RUNS / "tuning" / "notebooks" / "{study}" / "{condition}" / "{arm}-{rate}.ipynb",
    params:
        given=lambda w: str(STUDIES[w.study].parameters(SCALE, w.condition, w.arm, float(w.rate))),
    resources:
        mem_mb=memory,
        gpu_mb=card,
        runtime=MINUTES,
    shell:
        MTLKIT + " cell {wildcards.study} {wildcards.condition} {wildcards.arm} --scale " + SCALE
        + " --rate {wildcards.rate} -o {output}"
