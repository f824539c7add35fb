# An entrant's samples, drawn in `compute.sampling_jobs` jobs; `sample` then gathers what they drew. Included by the
# Snakefile. Where one job draws all, as is the default, no file asks for this rule.


rule part:
    input:
        JOBS.sampled_from,
    output:
        L.part("{dataset}", "{seed}", "{model}", "{solver}", "{part}"),
    log:
        f"{R}/logs/part/{{dataset}}/seed{{seed}}/{{model}}/{{solver}}/{{part}}.log",
    benchmark:
        f"{R}/bench/part/{{dataset}}/seed{{seed}}/{{model}}/{{solver}}/{{part}}.tsv"
    conda:
        JOBS.sampling_environment
    threads: 1
    resources:
        **JOBS.resources("part"),
    params:
        key=JOBS.part_key,
        part=lambda w: w.part.replace("of", "/"),
        study=STUDY,
    shell:
        "python -m fewstep sample {params.study:q} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --model {wildcards.model} --solver {wildcards.solver} --part {params.part} --threads {threads}"
        " > {log:q} 2>&1"
