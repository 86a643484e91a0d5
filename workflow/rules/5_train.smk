# Finetune one LoRA adapter of the LLM: one training set, one compressor at one ratio, one seed.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json                       of every part of the training set
#          build/<name>/segments/<corpus>/<split>/<compressor>-<ratio>/seal.json  of the same
# OUTPUTS  build/<name>/train/<train_set>/<compressor>-<ratio>/seed<seed>/seal.json  over the adapter (safetensors, JSON),
#          compressor.json, curve.jsonl and record.json


rule train:
    input:
        train_inputs,
        base_of,
        gate_of,
    output:
        seal(layout.train(NAME, "{train_set}", "{compressor}", "{ratio}", "{seed}")),
    log:
        log_of(layout.train(NAME, "{train_set}", "{compressor}", "{ratio}", "{seed}")),
    conda:
        ENVIRONMENT
    threads: CONFIG.train.threads
    resources:
        mem_mb=6000,
        runtime=720,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.train(CONFIG, w.train_set, w.compressor, w.ratio, int(w.seed)),
    message:
        "train {wildcards.train_set}/{wildcards.compressor}-{wildcards.ratio}/seed{wildcards.seed}"
    shell:
        "python tools/gpu.py python -m concertina.train --config {params.config} --train-set {wildcards.train_set}"
        " --compressor {wildcards.compressor} --ratio {wildcards.ratio} --seed {wildcards.seed} 2>&1 | tee -i {log}"
