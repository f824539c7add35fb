# fewstep: train baselines, fit accelerators, sample at each NFE, score, compare.
#
#   snakemake --cores all                                        the default study, config.yaml
#   snakemake --cores all --configfile studies/cpu-full.yaml     another one
#   snakemake --cores all --use-conda                            with conda environments
#
# Each rule calls `python -m fewstep …`, so every step also runs by hand. `params.key` hashes the code and the
# settings that a job depends on: editing one method reruns that method's jobs and the summaries, nothing else.

import sys

sys.path.insert(0, workflow.basedir)

from filelock import FileLock, Timeout
from snakemake.exceptions import WorkflowError

from evaluation.study import check
from fewstep.dag import make_dag
from fewstep.files import write_json

# A study file is complete; the default one is not mixed into it.
if not {"study", "datasets"} & set(config):

    configfile: f"{workflow.basedir}/config.yaml"


JOBS = make_dag(config, check, first=workflow.is_main_process)
L = JOBS.layout
R = str(L.root)
LOCK = FileLock(L.root / ".lock")

# The study as checked, read by every job; written when a run starts, and no input, so that a comment reruns nothing.
STUDY = ["--study", str(L.study), "--results", R]

PREFIX = f"set -euo pipefail; export PYTHONPATH='{workflow.basedir}'; "
shell.prefix(PREFIX)


wildcard_constraints:
    **JOBS.constraints(),


onstart:
    L.root.mkdir(parents=True, exist_ok=True)
    try:
        LOCK.acquire(timeout=0)
    except Timeout:
        raise WorkflowError(
            f"another run is at work in {R}/: wait for it, or choose --config results=OTHER"
        )
    write_json(L.study, JOBS.plan.study.model_dump())
    # Snakemake 9.27's limit on starts a second has it look for ready jobs again and again, once more with every finished
    # job, until that takes a core; --cores, or --jobs on a cluster, is limit enough.
    workflow.scheduler.job_rate_limiter = None
    # The jobs of a run on this machine share a fork server, which ends with this process (bash's parent).
    if workflow.local_exec:
        shell.prefix(
            f"{PREFIX}export FEWSTEP_FORK_SERVER=${{{{FEWSTEP_FORK_SERVER:-$PPID}}}}; "
        )


onsuccess:
    print(f"Open {R}/index.html; the table is {R}/leaderboard.csv")


rule all:
    default_target: True
    input:
        f"{R}/verdict.txt",


rule data:
    output:
        L.data("{dataset}"),
    log:
        f"{R}/logs/data/{{dataset}}.log",
    benchmark:
        f"{R}/bench/data/{{dataset}}.tsv"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        **JOBS.resources("data"),
    params:
        key=JOBS.data_key,
        study=STUDY,
    shell:
        "python -m fewstep data {params.study:q} --dataset {wildcards.dataset} > {log:q} 2>&1"


rule train:
    input:
        L.data("{dataset}"),
    output:
        L.model("{dataset}", "{seed}", "{baseline}"),
    log:
        f"{R}/logs/train/{{dataset}}/seed{{seed}}/{{baseline}}.log",
    benchmark:
        f"{R}/bench/train/{{dataset}}/seed{{seed}}/{{baseline}}.tsv"
    priority: 20
    conda:
        lambda w: JOBS.environment(w.baseline)
    threads: 1
    resources:
        **JOBS.resources("train"),
    params:
        key=JOBS.fit_key,
        study=STUDY,
    shell:
        "python -m fewstep train {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --baseline {wildcards.baseline} --threads {threads} > {log:q} 2>&1"


rule pairs:
    input:
        L.model("{dataset}", "{seed}", "{model}"),
    output:
        L.pairs("{dataset}", "{seed}", "{model}", "{pairs}"),
    log:
        f"{R}/logs/pairs/{{dataset}}/seed{{seed}}/{{model}}/{{pairs}}.log",
    benchmark:
        f"{R}/bench/pairs/{{dataset}}/seed{{seed}}/{{model}}/{{pairs}}.tsv"
    priority: 30
    conda:
        lambda w: JOBS.environment(*reversed(w.model.split("+")))
    threads: 1
    resources:
        **JOBS.resources("pairs"),
    params:
        key=JOBS.pairs_key,
        study=STUDY,
    shell:
        "python -m fewstep pairs {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --model {wildcards.model} --pairs {wildcards.pairs} --threads {threads} > {log:q} 2>&1"


rule fit:
    input:
        L.data("{dataset}"),
        JOBS.fitted_from,
    output:
        L.model("{dataset}", "{seed}", "{baseline}+{accelerator}"),
    log:
        f"{R}/logs/fit/{{dataset}}/seed{{seed}}/{{baseline}}+{{accelerator}}.log",
    benchmark:
        f"{R}/bench/fit/{{dataset}}/seed{{seed}}/{{baseline}}+{{accelerator}}.tsv"
    priority: 30
    conda:
        lambda w: JOBS.environment(w.accelerator, w.baseline)
    threads: 1
    resources:
        **JOBS.resources("fit"),
    params:
        key=JOBS.fit_key,
        study=STUDY,
    shell:
        "python -m fewstep fit {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --baseline {wildcards.baseline} --accelerator {wildcards.accelerator} --threads {threads} > {log:q} 2>&1"


rule reference:
    input:
        L.model("{dataset}", "{seed}", "{model}"),
    output:
        L.reference("{dataset}", "{seed}", "{model}"),
        L.reference("{dataset}", "{seed}", "{model}", ".safetensors"),
    log:
        f"{R}/logs/reference/{{dataset}}/seed{{seed}}/{{model}}.log",
    benchmark:
        f"{R}/bench/reference/{{dataset}}/seed{{seed}}/{{model}}.tsv"
    conda:
        lambda w: JOBS.environment(*reversed(w.model.split("+")))
    threads: 1
    resources:
        **JOBS.resources("reference"),
    params:
        key=JOBS.reference_key,
        study=STUDY,
    shell:
        "python -m fewstep reference {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --model {wildcards.model} --threads {threads} > {log:q} 2>&1"


rule sample:
    input:
        JOBS.sampled_from,
        JOBS.parts,
    output:
        L.samples("{dataset}", "{seed}", "{model}", "{solver}"),
    log:
        f"{R}/logs/sample/{{dataset}}/seed{{seed}}/{{model}}/{{solver}}.log",
    benchmark:
        f"{R}/bench/sample/{{dataset}}/seed{{seed}}/{{model}}/{{solver}}.tsv"
    conda:
        JOBS.sampling_environment
    threads: 1
    resources:
        **JOBS.resources("sample"),
    params:
        key=JOBS.sample_key,
        study=STUDY,
    shell:
        "python -m fewstep sample {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --model {wildcards.model} --solver {wildcards.solver} --threads {threads} > {log:q} 2>&1"


include: "fewstep/parts.smk"
include: "evaluation/scores.smk"
include: "evaluation/summaries.smk"
