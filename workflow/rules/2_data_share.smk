# Read one share of a long split; `data` joins the shares, and Snakemake then deletes them.
#
# INPUTS   the corpus' own sources, judged by content: its archives, unpacked, or files of your own
# OUTPUTS  scratch/shares/<name>/data/<corpus>/<split>/<i>-of-<n>/  one folder of rows and samples per part of the corpus
#
# Its priority is above that of a training, so that evaluations can fill the cores while the last trainings run.


rule data_share:
    input:
        inputs_of("data_share"),
    output:
        temp(directory(folder_of("data_share"))),
    log:
        log_of("data_share"),
    priority: 1
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        config=CONFIG_FILE,
        key=key_of("data_share"),
    message:
        "data_share {wildcards.corpus}/{wildcards.split}/{wildcards.share}"
    shell:
        "python -m concertina.data --config {params.config} --corpus {wildcards.corpus} --split {wildcards.split}"
        " --share {wildcards.share} --jobs {threads} 2>&1 | tee -i {log}"
