# Fetch a model from the hub at a revision, check its files and keep them; every experiment of this folder uses it.
#
# INPUTS   the hub, or the mirror that HF_ENDPOINT names; only where the folder is not there yet
# OUTPUTS  downloads/hub/<org>--<name>/<revision>/seal.json  over the model's files, their commit and licence


rule hub:
    output:
        seal(layout.hub("{model}", "{revision}")),
    log:
        log_of(layout.hub("{model}", "{revision}")),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.hub(*HUB[w.model, w.revision]),
        named=lambda w: keys.hub(*HUB[w.model, w.revision]),
    message:
        "hub {wildcards.model}/{wildcards.revision}"
    shell:
        "python -m concertina.fetching.hub --config {params.config} --model {params.named[model]:q}"
        " --revision {params.named[revision]:q} 2>&1 | tee -i {log}"
