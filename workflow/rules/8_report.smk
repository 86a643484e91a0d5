# Turn the records of every cell into the table, the figures and the page that a person reads.
#
# INPUTS   results/<name>/evaluate/<cell>/seal.json                            of every cell
#          build/<name>/train/<train_set>/<cell>/seed<seed>/seal.json          of every adapter, for its curve
# OUTPUTS  results/<name>/report/seal.json  over scores.csv, report.html, metrics.json, quality.svg,
#                                          headline.md and table.md (Markdown) and summary.txt
#          results/<name>/scores.csv        the tidy table
#          results/<name>/report.html       one self-contained page


rule report:
    input:
        inputs_of("report"),
    output:
        seal_of("report"),
        f"results/{NAME}/scores.csv",
        f"results/{NAME}/report.html",
    log:
        log_of("report"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        config=CONFIG_FILE,
        key=key_of("report"),
    message:
        "report"
    shell:
        "python -m concertina.report --config {params.config} 2>&1 | tee -i {log}"
