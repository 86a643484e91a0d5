# Finetune one LoRA adapter of the LLM: one training set, one compressor at one ratio, one seed.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json                       of every part of the training set
#          build/<name>/segments/<corpus>/<split>/<cell>/seal.json  of the same
# OUTPUTS  build/<name>/train/<train_set>/<cell>/seed<seed>/seal.json  over the adapter (safetensors, JSON),
#          compressor.json, curve.jsonl and record.json


rule train:
    input:
        inputs_of("train"),
    output:
        seal_of("train"),
    log:
        log_of("train"),
    conda:
        ENVIRONMENT
    threads: CONFIG.train.threads
    resources:
        mem_mb=6000,
        runtime=720,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("train"),
    message:
        "train {wildcards.train_set}/{wildcards.cell}/seed{wildcards.seed}"
    shell:
        "python tools/gpu.py python -m concertina.train --config {params.config} --train-set {wildcards.train_set}"
        " --cell {wildcards.cell} --seed {wildcards.seed} 2>&1 | tee -i {log}"
