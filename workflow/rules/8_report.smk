# Turn the records of every cell into the table, the figures and the page that a person reads.
#
# INPUTS   results/<name>/evaluate/<compressor>-<ratio>/seal.json                            of every cell
#          build/<name>/train/<train_set>/<compressor>-<ratio>/seed<seed>/seal.json          of every adapter, for its curve
# OUTPUTS  results/<name>/report/seal.json  over scores.csv, report.html, metrics.json, quality.svg,
#                                          headline.md and table.md (Markdown) and summary.txt
#          results/<name>/scores.csv        the tidy table
#          results/<name>/report.html       one self-contained page


rule report:
    input:
        report_inputs,
    output:
        seal(layout.report(NAME)),
        f"results/{NAME}/scores.csv",
        f"results/{NAME}/report.html",
    log:
        log_of(layout.report(NAME)),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        config=CONFIG_FILE,
        key=keys.report(CONFIG),
    message:
        "report"
    shell:
        "python -m concertina.report --config {params.config} 2>&1 | tee -i {log}"
