# Decide, with one compressor at one ratio, where to cut the frames of every utterance of a split and how to weight them.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json
# OUTPUTS  build/<name>/segments/<corpus>/<split>/<cell>/seal.json  over segments.safetensors


rule segments:
    input:
        inputs_of("segments"),
    output:
        seal_of("segments"),
    log:
        log_of("segments"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=CONFIG_FILE,
        key=key_of("segments"),
    message:
        "segments {wildcards.corpus}/{wildcards.split}/{wildcards.cell}"
    shell:
        "python -m concertina.segments --config {params.config} --corpus {wildcards.corpus}"
        " --split {wildcards.split} --cell {wildcards.cell} 2>&1 | tee -i {log}"
