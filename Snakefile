# Concertina, from speech to a report:  data -> features -> segments -> train -> evaluate -> report
#
# `snakemake` runs config.yaml; `snakemake --config experiment=configs/NAME.yaml` runs an overlay of it.
# How many cores, and where jobs run, is the profile's: profiles/default/ is used when none is named.


include: "workflow/rules/common.smk"
include: "workflow/rules/1_base_hub.smk"
include: "workflow/rules/1_base_join.smk"
include: "workflow/rules/1_base_scratch.smk"
include: "workflow/rules/2_data.smk"
include: "workflow/rules/2_data_fetch.smk"
include: "workflow/rules/2_data_share.smk"
include: "workflow/rules/3_features.smk"
include: "workflow/rules/3_features_share.smk"
include: "workflow/rules/4_segments.smk"
include: "workflow/rules/5_train.smk"
include: "workflow/rules/6_evaluate.smk"
include: "workflow/rules/6_evaluate_gate.smk"
include: "workflow/rules/6_evaluate_whisper.smk"
include: "workflow/rules/8_report.smk"
include: "workflow/rules/8_report_track.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.report_track.output,
        inputs_of("report"),
    message:
        f"results/{NAME}/report.html is the page to read"


onerror:
    shell(f"python -m concertina.report --config {CONFIG_FILE} --partial || true")
    shell(f"python -m concertina.report track --config {CONFIG_FILE} || true")
