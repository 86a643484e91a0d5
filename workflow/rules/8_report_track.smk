# Replay records, curves and files into MLflow, by run key; a failure of MLflow is told, and the next run tries again.
#
# INPUTS   results/<name>/report/seal.json
# OUTPUTS  scratch/track/<name>/seal.json  that this was done, where, and how often it failed


rule report_track:
    input:
        inputs_of("report_track"),
    output:
        seal_of("report_track"),
    log:
        log_of("report_track"),
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
        failures=replay.failures(CONFIG),
    message:
        "report_track"
    shell:
        "python -m concertina.report track --config {params.config} --failures {params.failures} 2>&1 | tee -i {log}"
