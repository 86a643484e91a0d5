# Assemble a base from a pretrained Whisper encoder and a pretrained LLM, joined by a projector trained on some speech.
#
# INPUTS   build/<name>/data/<corpus>/<split>/seal.json  of the speech; seal.json of packages or hub models, where fetched
# OUTPUTS  build/<name>/base/seal.json  over a Qwen2-Audio checkpoint (safetensors, JSON), its curve and record.json


rule base_join:
    input:
        inputs_of("base_join"),
    output:
        seal_of("base_join"),
    log:
        log_of("base_join"),
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=8000,
        runtime=720,
        gpu=1,
    params:
        config=CONFIG_FILE,
        key=key_of("base_join"),
    message:
        "base_join"
    shell:
        "python tools/gpu.py python -m concertina.base join --config {params.config} 2>&1 | tee -i {log}"
