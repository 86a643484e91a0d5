# Decode and score one cell on every test set: zero-shot, and with each of its adapters.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json                       of every test set
#          build/<name>/segments/<corpus>/<split>/<cell>/seal.json  of the same
#          build/<name>/train/<train_set>/<cell>/seed<seed>/seal.json  of every training set and seed
# OUTPUTS  results/<name>/evaluate/<cell>/seal.json  over records (JSON) and predictions (Parquet)


rule evaluate:
    input:
        inputs_of("evaluate"),
    output:
        seal_of("evaluate"),
    log:
        log_of("evaluate"),
    conda:
        ENVIRONMENT
    threads: CONFIG.evaluate.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("evaluate"),
    message:
        "evaluate {wildcards.cell}"
    shell:
        "python tools/gpu.py python -m concertina.evaluate --config {params.config}"
        " --cell {wildcards.cell} 2>&1 | tee -i {log}"
