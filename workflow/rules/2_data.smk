# Read one split of a corpus into 16 kHz mono audio and a manifest with one row per utterance.
#
# INPUTS   the corpus' own sources, judged by content: its archives, unpacked, or files of your own; a long split's shares
# OUTPUTS  build/<name>/data/<corpus>/<split>/seal.json  over manifest.jsonl, rejects.jsonl and audio shards (safetensors)
#
# Its priority is above that of a training, so that evaluations can fill the cores while the last trainings run.


rule data:
    input:
        inputs_of("data"),
        shares=shares_of("data"),
    output:
        seal_of("data"),
    log:
        log_of("data"),
    priority: 1
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        config=CONFIG_FILE,
        key=key_of("data"),
    message:
        "data {wildcards.corpus}/{wildcards.split}"
    shell:
        "python -m concertina.data --config {params.config} --corpus {wildcards.corpus} --split {wildcards.split}"
        " --jobs {threads} --gather {input.shares} 2>&1 | tee -i {log}"
