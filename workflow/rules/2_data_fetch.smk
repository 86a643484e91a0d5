# Fetch an archive that a corpus publishes, check it and unpack it; every experiment of this folder uses it.
#
# INPUTS   the archive where the config names it, or in downloads/<kind>/ where it already is; else its addresses
# OUTPUTS  downloads/<kind>/<archive>/seal.json  over the archive's files


rule data_fetch:
    output:
        seal_of("data_fetch"),
    log:
        log_of("data_fetch"),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=1440,
    params:
        config=CONFIG_FILE,
        key=key_of("data_fetch"),
    message:
        "data_fetch {wildcards.kind}/{wildcards.archive}"
    shell:
        "python -m concertina.data fetch --config {params.config} --kind {wildcards.kind}"
        " --archive {wildcards.archive} 2>&1 | tee -i {log}"
