# Encode one share of a long split; `features` joins the shares, and Snakemake then deletes them.
#
# INPUTS   build/<name>/data/<corpus>/<split>/seal.json
# OUTPUTS  scratch/shares/<name>/features/<corpus>/<split>/<i>-of-<n>/  frame shards (safetensors) with their index
#
# Its priority is above that of a training, so that evaluations can fill the cores while the last trainings run.


rule features_share:
    input:
        inputs_of("features_share"),
    output:
        temp(directory(folder_of("features_share"))),
    log:
        log_of("features_share"),
    priority: 1
    conda:
        ENVIRONMENT
    threads: CONFIG.features.threads
    resources:
        mem_mb=6000,
        runtime=240,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("features_share"),
    message:
        "features_share {wildcards.corpus}/{wildcards.split}/{wildcards.share}"
    shell:
        "python tools/gpu.py python -m concertina.features --config {params.config} --corpus {wildcards.corpus}"
        " --split {wildcards.split} --share {wildcards.share} 2>&1 | tee -i {log}"
