# What is read in the end: leaderboard, figures, page, and the verdict that makes a failed point a failed run.
# On a cluster all that is drawn from the scores is one job, and the verdict is spoken where the run was started.


localrules:
    verdict,


rule leaderboard:
    input:
        JOBS.scores(),
        JOBS.references(),
    output:
        report(
            f"{R}/leaderboard.csv",
            caption="report/leaderboard.rst",
            category="Leaderboard",
        ),
        f"{R}/leaderboard.md",
        f"{R}/models.csv",
        f"{R}/models.md",
        f"{R}/records.parquet",
        L.plan,
    log:
        f"{R}/logs/leaderboard.log",
    benchmark:
        f"{R}/bench/leaderboard.tsv"
    group:
        "summaries"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        mem_mb=1000,
    params:
        key=[
            JOBS.summary_key("evaluation.leaderboard"),
            JOBS.summary_key("evaluation.models"),
        ],
        study=STUDY,
    shell:
        "python -m fewstep leaderboard {params.study:q} > {log:q} 2>&1"


for name in JOBS.datasets:

    rule:
        name:
            f"figures_{name}"
        input:
            f"{R}/records.parquet",
        output:
            report(
                JOBS.figures(name),
                caption="report/figure.rst",
                category="Figures",
                subcategory=name,
            ),
        log:
            f"{R}/logs/figures/{name}.log",
        benchmark:
            f"{R}/bench/figures/{name}.tsv"
        group:
            "summaries"
        conda:
            JOBS.environment()
        threads: 1
        resources:
            mem_mb=1500,
        params:
            key=JOBS.summary_key("evaluation.figures", name),
            study=STUDY,
            dataset=name,
        shell:
            "python -m fewstep figures {params.study:q} --dataset {params.dataset} > {log:q} 2>&1"


# The papers' tables with our numbers; which of them there are follows from the study, so the folder is the output.
rule tables:
    input:
        f"{R}/records.parquet",
    output:
        report(
            directory(f"{R}/tables"),
            patterns=["{name}.md"],
            caption="report/table.rst",
            category="Tables",
        ),
    log:
        f"{R}/logs/tables.log",
    benchmark:
        f"{R}/bench/tables.tsv"
    group:
        "summaries"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        mem_mb=1000,
    params:
        key=JOBS.summary_key("evaluation.tables"),
        study=STUDY,
    shell:
        "python -m fewstep tables {params.study:q} > {log:q} 2>&1"


rule site:
    input:
        f"{R}/records.parquet",
        f"{R}/tables",
        [JOBS.figures(name) for name in JOBS.datasets],
    output:
        f"{R}/index.html",
    log:
        f"{R}/logs/site.log",
    benchmark:
        f"{R}/bench/site.tsv"
    group:
        "summaries"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        mem_mb=1500,
    params:
        key=JOBS.summary_key("evaluation.site"),
        study=STUDY,
    shell:
        "python -m fewstep site {params.study:q} > {log:q} 2>&1"


# Last, so that everything else is there when a failed point ends the run with a non-zero exit code.
rule verdict:
    input:
        f"{R}/leaderboard.csv",
        f"{R}/index.html",
    output:
        f"{R}/verdict.txt",
    log:
        f"{R}/logs/verdict.log",
    benchmark:
        f"{R}/bench/verdict.tsv"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        mem_mb=1000,
    params:
        strict=JOBS.plan.study.strict,
        study=STUDY,
    shell:
        "python -m fewstep verdict {params.study:q} 2>&1 | tee {log:q} {output:q}"
