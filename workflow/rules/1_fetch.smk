# Fetch an archive that a corpus publishes, check it and unpack it; every experiment of this folder uses it.
#
# INPUTS   the archive where the config names it, or in downloads/<kind>/ where it already is; else its addresses
# OUTPUTS  downloads/<kind>/<archive>/seal.json  over the archive's files


rule fetch:
    output:
        seal(layout.fetched("{kind}", "{archive}")),
    log:
        log_of(layout.fetched("{kind}", "{archive}")),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=1440,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.fetch(CONFIG, w.kind, w.archive),
    message:
        "fetch {wildcards.kind}/{wildcards.archive}"
    shell:
        "python -m concertina.fetching.archive --config {params.config} --kind {wildcards.kind}"
        " --archive {wildcards.archive} 2>&1 | tee -i {log}"
