# Transcribe the test sets with the whole Whisper whose encoder the base was assembled from: the base's yardstick.
#
# INPUTS   build/<name>/data/<corpus>/<split>/seal.json of every transcription set; downloads/packages/.../seal.json
# OUTPUTS  results/<name>/whisper/seal.json  over record.json (scores with intervals) and each set's texts (JSON)


rule evaluate_whisper:
    input:
        inputs_of("evaluate_whisper"),
    output:
        seal_of("evaluate_whisper"),
    log:
        log_of("evaluate_whisper"),
    conda:
        ENVIRONMENT
    threads: CONFIG.evaluate.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("evaluate_whisper"),
    message:
        "evaluate_whisper"
    shell:
        "python tools/gpu.py python -m concertina.evaluate whisper --config {params.config} 2>&1 | tee -i {log}"
