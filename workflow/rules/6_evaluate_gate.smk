# Hold the uncompressed base against published figures, before anything is trained: where it is off, the run stops.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json and build/<name>/segments/<corpus>/<split>/none-1/seal.json
#          of the gate's test sets; the file of published figures
# OUTPUTS  results/<name>/gate/seal.json  over the sets' records and predictions, and record.json with the judgement


rule evaluate_gate:
    input:
        inputs_of("evaluate_gate"),
    output:
        seal_of("evaluate_gate"),
    log:
        log_of("evaluate_gate"),
    conda:
        ENVIRONMENT
    threads: CONFIG.evaluate.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("evaluate_gate"),
    message:
        "evaluate_gate"
    shell:
        "python tools/gpu.py python -m concertina.evaluate gate --config {params.config} 2>&1 | tee -i {log}"
