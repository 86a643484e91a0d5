"""What `concertina compare` is given: pairs, references, chunks, records beside, bad and hostile input."""

import random
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from concertina import cli, compare
from concertina.store import records
from helpers import made_results
from helpers.prediction_files import SENTENCES, ids, jsonl, misheard, run

GOOD = misheard(SENTENCES, 0.05, seed=1)


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_utterances_are_found_by_their_ids_and_the_worst_are_shown() -> None:
    order = random.Random(0).sample(range(len(SENTENCES)), len(SENTENCES))
    worst = [*GOOD[:40], GOOD[40] + " and so on" * 20, *GOOD[41:]]
    speakers = [f"speaker {i % 40}" for i in range(len(SENTENCES))]
    a = jsonl("a.jsonl", GOOD, id=ids(), speaker=speakers)
    texts, given = [SENTENCES[i].upper() for i in order], [worst[i] for i in order]
    b = jsonl("b.jsonl", given, texts, id=[ids()[i] for i in order])
    _, found, _ = run(a, b, "--json")
    assert (found["worse"], found["better"], found["paired_by"]) == (1, 0, "id")
    assert found["intervals"] == "blocked by speaker"
    [one] = found["most_different"]
    assert (one["name"], one["errors"], one["text_b"]) == ("utt-0040", 60, worst[40])
    _, text, _ = run(a, b)
    assert "over 40 speakers (blocked by speaker)" in text
    assert "utt-0040: B +60 errors" in text
    assert "..." in text.splitlines()[-1]
    status, _, error = run(a, b, "--metric", "bleu")
    assert status == 2
    assert "utt-0000: the references differ" in error


def test_what_cannot_be_scored_is_counted_and_a_failed_model_counts_as_silence() -> None:
    texts = ["", "[laughter]", *SENTENCES[2:20]]
    a = jsonl("a.jsonl", ["x", None, None, *GOOD[3:20]], texts, id=list(range(20)))
    b = jsonl("b.jsonl", GOOD[:20], texts, id=list(range(20)))
    _, found, _ = run(a, b, "--json")
    assert (found["utterances"], found["not_scored"]) == (18, ["0", "1"])
    assert found["a"]["deletions"] >= len(SENTENCES[2].split())
    assert (
        "18 utterances, paired by id; 2 more cannot be scored, for their references hold no words: 0, 1" in run(a, b)[1]
    )


def test_chunks_of_a_recording_are_joined_as_the_leaderboard_joins_them() -> None:
    whole = jsonl("whole.jsonl", ["one two three", "four"], ["one two three four", "four"], id=["r", "s"])
    chunks: dict[str, list[Any]] = {"parent_id": ["r", "s", "r"], "chunk_index": [1, 0, 0]}
    texts = ["one two three four", "four", "one two three four"]
    cut = jsonl("cut.jsonl", [" three", "four", "one two "], texts, **chunks)
    _, found, _ = run(whole, cut, "--json")
    assert (found["verdict"], found["utterances"], found["same"]) == ("tie", 2, 2)
    jsonl("cut.jsonl", [" three", "four", "one two "], texts, **{**chunks, "chunk_index": [2, 0, 0]})
    assert "chunk 1 of recording r is missing" in run(whole, cut)[2]


def test_the_record_beside_predictions_decides_metric_and_language(here: Path) -> None:
    cells = [{"compressor": "none", "ratios": [1]}, {"compressor": "average", "ratios": [3]}]
    sets = [{"name": name, "corpus": "synthetic", "split": "clean", "language": "en"} for name in ("heard", "clean-de")]
    sets[0]["task"], sets[1]["task"], sets[1]["to"] = "transcribe", "translate", "de"
    made, _ = made_results.config(here, segments={"cells": cells}, evaluate={"sets": sets})
    made_results.write(made)
    b, *_, a = map(str, sorted(Path("results/tiny/evaluate").glob("*/clean-de/*.parquet")))
    _, found, _ = run(a, b, "--json")
    assert (found["metric"], found["language"], found["paired_by"]) == ("bleu", "de", "id")
    for name in "ab":
        record = records.read(Path(found[name]["path"]).with_suffix(".json"))
        assert isinstance(record, records.Record)
        assert found[name]["value"] == record.scores["bleu"].value
        assert found["signature"] == record.scores["bleu"].signature
    heard, *_ = map(str, Path("results/tiny/evaluate").glob("*/heard/*.parquet"))
    status, _, error = run(heard, b)
    assert status == 2
    assert "is en and" in error
    assert "--language CODE" in error


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "No such file"),
        ("", [], "b.jsonl holds no utterances"),
        ('{"id": "x", "pred_text": "a"}\n{"id": ', [], "b.jsonl line 2 is no JSON object"),
        ("[" * 100_000, [], "b.jsonl line 1 is no JSON object"),
        ('{"id": "x", "text": "a b"}', [], "b.jsonl has no field hypothesis or pred_text"),
        ('{"id": "x", "text": "a b", "pred_text": 3}', [], "b.jsonl line 1: pred_text is not a text"),
        ('{"id": "x", "pred_text": "a"}\n{"pred_text": "a"}', [], "b.jsonl line 2: id is missing"),
        ('{"id": "x", "pred_text": "a"}\n{"id": "x", "pred_text": "a"}', [], "id x is in line 1 and line 2"),
        (
            '{"id": "x", "pred_text": "a"}\n{"id": "z", "pred_text": "a"}',
            [],
            "a.jsonl line 2: id y has no partner in b",
        ),
        ('{"id": "x", "pred_text": "a"}', ["--by", "line"], "line 2 of a.jsonl has no partner"),
        ('{"pred_text": "a"}\n{"pred_text": "a"}', ["--by", "id"], "b.jsonl has no ids"),
        ('{"id": "x", "pred_text": "a"}\n{"id": "y", "text": "a c", "pred_text": "a"}', [], "line 1: text is missing"),
        (
            '{"id": "x", "text": "a b", "pred_text": "a"}\n{"id": "y", "text": "a c", "pred_text": "a"}',
            [],
            "y: the references differ: A has 'c d', B 'a c'",
        ),
        ('{"id": "x", "pred_text": "a"}\n{"id": "y", "pred_text": "a"}', ["--language", "English"], "such as de"),
        ('{"id": "x", "pred_text": "a"}\n{"id": "y", "pred_text": "a"}', ["--top", "-1"], "--top -1"),
        (
            '{"id": "x", "pred_text": "a"}\n{"id": "y", "pred_text": "a"}',
            ["--references", "r.txt"],
            "every reference is empty",
        ),
        (b'{"id": "x", "pred_text": "\xff"}', [], "byte 26 is not UTF-8"),
    ],
)
def test_bad_input_is_told_in_one_line(content: str | bytes | None, options: list[str], message: str) -> None:
    a = jsonl("a.jsonl", ["a b", "c d"], ["a b", "c d"], id=["x", "y"])
    Path("r.txt").write_text("\n\n")
    if content is not None:
        Path("b.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, out, error = run(a, "b.jsonl", *options)
    assert (status, out) == (2, "")
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_other_kinds_of_bad_files() -> None:
    Path("a.txt").write_text("a b\n")
    Path("b.parquet").write_text("PAR1 and then nothing")
    assert "neither a.txt nor a.txt has references; name their file with --references FILE" in run("a.txt", "a.txt")[2]
    assert "b.parquet is not Parquet" in run("a.txt", "b.parquet")[2]
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x"], "reference": [{"a": 1}], "hypothesis": ["a"]}), "b.parquet")
    assert "b.parquet row 1: reference is not a text" in run("b.parquet", "b.parquet")[2]


def test_hostile_text_reaches_a_terminal_escaped_and_a_script_whole() -> None:
    hostile = "\x1b]0;owned\x07 \u202egnp.exe \ud800\u2028\r\n\x9b2J"
    name = f"id{hostile}"
    a = jsonl("a.jsonl", [hostile], ["one two three"], id=[name])
    b = jsonl("b.jsonl", ["one two three"], ["one two three"], id=[name])
    status, text, _ = run(a, b)
    assert status == 0
    assert all(character.isprintable() or character == "\n" for character in text)
    assert r"\x1b]0;owned\x07 \u202egnp.exe \ud800\u2028\r\n\x9b2J" in text
    [one] = run(a, b, "--json")[1]["most_different"]
    assert (one["name"], one["text_a"]) == (name, hostile)
    error = run(a, jsonl("c.jsonl", ["x"], ["one two three"], id=["other"]))[2]
    assert r"id\x1b]0;owned" in error
    assert all(character.isprintable() or character == "\n" for character in error)


def test_the_examples_of_the_help_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out.replace("\\\n", " ")
    examples = re.findall(r"^  concertina compare (.+)$", shown, re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        asked = compare.parser().parse_args(shlex.split(example.split(">")[0]))
        assert asked.a != asked.b
