"""`concertina compare`: whether one system's texts are better than another's, from two files of predictions."""

import argparse
import json
import re
import sys
from pathlib import Path

from concertina import console, metrics
from concertina.comparison import files, measures, pairs, wording
from concertina.comparison.files import InputError

COMPARED, WORSE, REFUSED = 0, 1, 2  # exit statuses
EXAMPLES = """
files, known by how their names end, or how they begin:
  .parquet                 Concertina's predictions, or any table with the fields below
  .jsonl, .ndjson, .json   one JSON object a line: manifests of NeMo and the Open ASR Leaderboard, or your own
  .txt                     one hypothesis a line, without ids; --references names the file of references, one a line
  Fields: id or audio_filepath, reference or text, hypothesis or pred_text, and speaker or speaker_id. Without ids,
  line N of A belongs to line N of B. Where 40 speakers or more are known, intervals are over speakers.

examples:
  concertina compare results/tiny/evaluate/none-1/hard/english-seed0.parquet \\
                     results/tiny/evaluate/average-3/hard/english-seed0-keep.parquet
  concertina compare baseline.txt mine.txt --references references.txt --language de
  concertina compare MODEL_a_DATASET_x_test.jsonl MODEL_b_DATASET_x_test.jsonl --metric cer --top 20
  concertina compare old.jsonl new.jsonl --fail-if-worse --json > verdict.json

exit status:
  0  compared; 1  B is worse, under --fail-if-worse; 2  the files cannot be compared, and the message says why
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="concertina compare",
        description="Say whether B's texts are better than A's: both scores, the paired difference with its interval\n"
        "and p, on how many utterances B does worse and better, and where they differ most.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A", help="predictions of the system that is compared with")
    parser.add_argument("b", type=Path, metavar="B", help="predictions of the other, on the same utterances")
    parser.add_argument("--references", type=Path, metavar="FILE", help="references that count in place of the files'")
    parser.add_argument(
        "--metric",
        choices=metrics.names(),
        help="what is compared (default: wer; bleu where the records beside both Parquet files say it is translation)",
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="of the texts, such as de: decides the normaliser of wer and cer and the tokenizer of bleu "
        "(default: what the record beside a Parquet file says, otherwise en)",
    )
    parser.add_argument(
        "--by", choices=["id", "line"], help="how utterances are paired (default: by id where all have)"
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="show the N that differ most (default: 10)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit with status 1 where B is worse")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Print the comparison; exit statuses are in the help."""
    asked = parser().parse_args(argv)
    try:
        if asked.top < 0:
            raise InputError(f"--top {asked.top}: a number of utterances is not negative")
        found = compare(asked.a, asked.b, asked.references, asked.metric, asked.language, asked.by)
        if asked.json:
            text = json.dumps(wording.as_json(found, asked.a, asked.b, asked.top), indent=2, allow_nan=False)
        else:
            text = wording.report(found, asked.a, asked.b, asked.top)
        console.write(f"{text}\n", sys.stdout)
    except (InputError, metrics.ScoreError, OSError) as error:
        console.say(f"error: {wording.shown(' '.join(str(error).split()))}")
        return REFUSED
    return WORSE if asked.fail_if_worse and found.verdict == "worse" else COMPARED


def compare(
    a: Path,
    b: Path,
    references: Path | None = None,
    metric: str | None = None,
    language: str | None = None,
    by: pairs.By | None = None,
) -> measures.Comparison:
    """Read two files of predictions and compare them. Errors: InputError, ScoreError, OSError."""
    of_a, of_b = files.read(a), files.read(b)
    given = files.read_references(references) if references else None
    if metric is None:
        metric = "bleu" if of_a.task == of_b.task == "translate" else "wer"
    known = [file for file in (of_a, of_b) if file.language]
    if language is None and len({file.language for file in known}) > 1:
        raise InputError(f"{a} is {of_a.language} and {b} is {of_b.language}: say which counts with --language CODE")
    language = language or (known[0].language if known else None) or "en"
    if not re.fullmatch(r"[a-z]{2,3}", language):
        raise InputError(f"--language {language}: a language is a code of two or three letters, such as de")
    return measures.compare(pairs.pair(of_a, of_b, given, by), metric, language)


if __name__ == "__main__":
    raise SystemExit(main())
