# Replay records, curves and files into MLflow, by run key; a failure of MLflow is told, and the next run tries again.
#
# INPUTS   results/<name>/report/seal.json
# OUTPUTS  scratch/track/<name>/seal.json  that this was done, where, and how often it failed


rule track:
    input:
        seal(layout.report(NAME)),
    output:
        seal(layout.track(NAME)),
    log:
        log_of(layout.track(NAME)),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        config=CONFIG_FILE,
        place=mlflow_client.place(),
        failures=replay.failures(NAME),
    message:
        "track"
    shell:
        "python -m concertina.tracking.replay --config {params.config} --failures {params.failures} 2>&1 | tee -i {log}"
