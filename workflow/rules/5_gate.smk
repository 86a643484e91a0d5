# Hold the uncompressed base against published figures, before anything is trained: where it is off, the run stops.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json and build/<name>/segments/<corpus>/<split>/none-1/seal.json
#          of the gate's test sets; the file of published figures
# OUTPUTS  results/<name>/gate/seal.json  over the sets' records and predictions, and record.json with the judgement


rule gate:
    input:
        gate_inputs,
        base_of,
    output:
        seal(layout.gate(NAME)),
    log:
        log_of(layout.gate(NAME)),
    conda:
        ENVIRONMENT
    threads: CONFIG.evaluate.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.gate(CONFIG),
    message:
        "gate"
    shell:
        "python tools/gpu.py python -m concertina.checks.gate --config {params.config} 2>&1 | tee -i {log}"
