# Decode and score one cell on every test set: zero-shot, and with each of its adapters.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json                       of every test set
#          build/<name>/segments/<corpus>/<split>/<compressor>-<ratio>/seal.json  of the same
#          build/<name>/train/<train_set>/<compressor>-<ratio>/seed<seed>/seal.json  of every training set and seed
# OUTPUTS  results/<name>/evaluate/<compressor>-<ratio>/seal.json  over records (JSON) and predictions (Parquet)


rule evaluate:
    input:
        evaluate_inputs,
        base_of,
        gate_of,
    output:
        seal(layout.evaluate(NAME, "{compressor}", "{ratio}")),
    log:
        log_of(layout.evaluate(NAME, "{compressor}", "{ratio}")),
    conda:
        ENVIRONMENT
    threads: CONFIG.evaluate.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.evaluate(CONFIG, w.compressor, w.ratio),
    message:
        "evaluate {wildcards.compressor}-{wildcards.ratio}"
    shell:
        "python tools/gpu.py python -m concertina.evaluate --config {params.config}"
        " --compressor {wildcards.compressor} --ratio {wildcards.ratio} 2>&1 | tee -i {log}"
