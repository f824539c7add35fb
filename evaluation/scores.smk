# Judging: what the reference set gives, then every entrant's samples against it.


# What each feature network makes of the reference set: once a dataset, for every score.
rule statistics:
    input:
        L.data("{dataset}"),
    output:
        L.statistics("{dataset}", "{extractor}"),
    log:
        f"{R}/logs/statistics/{{dataset}}/{{extractor}}.log",
    benchmark:
        f"{R}/bench/statistics/{{dataset}}/{{extractor}}.tsv"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        **JOBS.resources("statistics"),
    params:
        key=JOBS.statistics_key,
        study=STUDY,
    shell:
        "python -m fewstep statistics {params.study:q} --dataset {wildcards.dataset}"
        " --extractor {wildcards.extractor} > {log:q} 2>&1"


# One job a model: reading the reference and starting Python would cost more than judging one entrant.
rule score:
    input:
        L.data("{dataset}"),
        JOBS.scored_from,
    output:
        directory(L.scores("{dataset}", "{seed}", "{model}")),
    log:
        f"{R}/logs/score/{{dataset}}/seed{{seed}}/{{model}}.log",
    benchmark:
        f"{R}/bench/score/{{dataset}}/seed{{seed}}/{{model}}.tsv"
    conda:
        JOBS.environment()
    threads: 1
    resources:
        **JOBS.resources("score"),
    params:
        key=JOBS.score_key,
        study=STUDY,
    shell:
        "python -m fewstep score {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --model {wildcards.model} > {log:q} 2>&1"
