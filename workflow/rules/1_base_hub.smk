# Fetch a model from the hub at a revision, check its files and keep them; every experiment of this folder uses it.
#
# INPUTS   the hub, or the mirror that HF_ENDPOINT names; only where the folder is not there yet
# OUTPUTS  downloads/hub/<org>--<name>/<revision>/seal.json  over the model's files, their commit and licence


rule base_hub:
    output:
        seal_of("base_hub"),
    log:
        log_of("base_hub"),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        config=CONFIG_FILE,
        key=key_of("base_hub"),
    message:
        "base_hub {wildcards.model}/{wildcards.revision}"
    shell:
        "python -m concertina.base hub --config {params.config} --model {wildcards.model:q}"
        " --revision {wildcards.revision:q} 2>&1 | tee -i {log}"
