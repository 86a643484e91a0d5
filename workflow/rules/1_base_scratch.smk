# Train the tiny base LALM from nothing: synthesised speech in three languages, CTC first, then through the LLM.
# Run by hand (`make base`), never as part of a run: every run starts from the shipped files, pinned by config.base.sha256.
#
# INPUTS   none
# OUTPUTS  models/tiny/  safetensors, config, tokenizer, processor (JSON), card (Markdown)


rule base_scratch:
    log:
        "logs/base.log",
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        config=CONFIG_FILE,
    message:
        "base_scratch"
    shell:
        "python -m concertina.base --config {params.config} 2>&1 | tee -i {log}"
