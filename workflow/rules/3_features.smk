# Run the frozen encoder once over every utterance of a split; all compressors and ratios share its frames.
#
# INPUTS   build/<name>/data/<corpus>/<split>/seal.json; the shares of a long split; a base that is fetched or assembled
# OUTPUTS  build/<name>/features/<corpus>/<split>/seal.json  over frame shards (safetensors) and manifest.jsonl
#
# Its priority is above that of a training, so that evaluations can fill the cores while the last trainings run.


rule features:
    input:
        inputs_of("features"),
        shares=shares_of("features"),
    output:
        seal_of("features"),
    log:
        log_of("features"),
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
        key=key_of("features"),
    message:
        "features {wildcards.corpus}/{wildcards.split}"
    shell:
        "python tools/gpu.py python -m concertina.features --config {params.config} --corpus {wildcards.corpus}"
        " --split {wildcards.split} --gather {input.shares} 2>&1 | tee -i {log}"
