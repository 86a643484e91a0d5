# Decide, with one compressor at one ratio, where to cut the frames of every utterance of a split and how to weight them.
#
# INPUTS   build/<name>/features/<corpus>/<split>/seal.json
# OUTPUTS  build/<name>/segments/<corpus>/<split>/<compressor>-<ratio>/seal.json  over segments.safetensors


rule segments:
    input:
        seal(layout.features(NAME, "{corpus}", "{split}")),
    output:
        seal(layout.segments(NAME, "{corpus}", "{split}", "{compressor}", "{ratio}")),
    log:
        log_of(layout.segments(NAME, "{corpus}", "{split}", "{compressor}", "{ratio}")),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=CONFIG_FILE,
        key=lambda w: keys.segments(CONFIG, w.corpus, w.split, w.compressor, w.ratio),
    message:
        "segments {wildcards.corpus}/{wildcards.split}/{wildcards.compressor}-{wildcards.ratio}"
    shell:
        "python -m concertina.segments --config {params.config} --corpus {wildcards.corpus}"
        " --split {wildcards.split} --compressor {wildcards.compressor} --ratio {wildcards.ratio} 2>&1 | tee -i {log}"
