"""The evaluate stage: records and predictions of zero-shot and adapted runs, counts, caps, batches of any size."""

import json
import math
from pathlib import Path

import pytest
import yaml

from concertina import config, evaluate, train
from concertina.artefacts import keys
from concertina.model import answering, batching, decoding, lalm
from concertina.store import predictions, records, sealing
from helpers import tiny_run
from helpers.artefacts import folder_of

pytestmark = pytest.mark.slow  # a cell is trained first


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which one cell has been trained and evaluated."""
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        overlay = tiny_run.write(root, train={"steps": 150, "batch": 16})
        tiny_run.split(overlay, "train", 40, seed=1)
        tiny_run.split(overlay, "dev", 8, seed=2)
        assert train.main(tiny_run.train_arguments(overlay)) == 0
        assert evaluate.main(["--config", "t.yaml", "--cell", "average-3"]) == 0
    return root


@pytest.fixture(autouse=True)
def _there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)


def test_every_test_set_has_a_record_and_predictions_of_every_run() -> None:
    folder = folder_of("evaluate", "t", "average-3")
    sealing.verify(folder)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")} == {
        "seal.json",
        *(
            f"{test_set}/{run}.{kind}"
            for test_set in ("clean", "clean-en-de")
            for run in ("zero-shot-keep", "english-seed0-keep")
            for kind in ("json", "parquet")
        ),
    }
    for path, record in records.read_folder(folder).items():
        assert isinstance(record, records.Record)
        rows = predictions.read(path.with_suffix(".parquet"))
        assert len(rows) == record.n_utterances == {"clean": 8, "clean-en-de": 5}[record.test_set]
        assert record.adapted == (path.stem != "zero-shot-keep")
        assert set(record.scores) == set(config.load("t.yaml").evaluate.metrics[record.task])
        assert record.cap_hits == sum(rows["cap_hit"])
        assert record.loops == sum(rows["loop"])
        assert record.realised_ratio == sum(rows["frames"]) / sum(rows["audio_tokens"])
        rate = record.audio_tokens_per_second
        assert rate.mean == pytest.approx(sum(rows["audio_tokens"]) / sum(rows["duration_s"]))
        assert rate.p05 <= rate.mean <= rate.p95
        assert json.dumps(rows["tags"][0]) == '{"kind": "digits"}'


def test_a_records_key_is_of_its_own_texts_and_metrics() -> None:
    found = [
        record
        for record in records.read_folder(folder_of("evaluate", "t", "average-3")).values()
        if isinstance(record, records.Record)
    ]
    assert len({record.run_key for record in found}) == len(found) == 4
    experiment = config.load("t.yaml")
    for record in found:
        run = f"{record.train_set}-seed{record.seed}" if record.adapted else "zero-shot"
        unit = sealing.verify(folder_of("evaluate_decode", "t", "average-3-keep", record.test_set, run))["run_key"]
        assert record.run_key == keys.run_key(keys.scores(experiment, record.task), [unit])


def test_a_reference_without_words_is_left_out_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    test_set = config.load("t.yaml").evaluate.sets[0]
    cached = tiny_run.speech("dev")
    spoken = [
        batching.Item(cached, at, ([], []), text, [])
        for at, text in enumerate(["one", "[laughter] ...", "um", "9" * 4301])
    ]
    found, wordless = decoding.scorable(spoken, test_set)
    assert [item.text for item in found] == ["one"]
    assert wordless == ["dev1", "dev2", "dev3"]
    assert (
        "clean: 3 left out, whose reference has no words when normalised: dev1, dev2, dev3" in capsys.readouterr().err
    )
    with pytest.raises(config.ConfigError, match=r"evaluate\.sets\.clean: no reference has words"):
        decoding.scorable(spoken[1:], test_set)


def test_training_shows_in_the_scores() -> None:
    folder = folder_of("evaluate", "t", "average-3")
    before, after = (records.read(folder / "clean" / f"{run}.json") for run in ("zero-shot-keep", "english-seed0-keep"))
    assert isinstance(before, records.Record)
    assert isinstance(after, records.Record)
    assert after.scores["wer"].value < before.scores["wer"].value


def test_the_cap_is_the_durations_and_hits_are_counted() -> None:
    experiment = config.load("t.yaml")
    assert answering.cap(0.1, experiment) == 16
    assert answering.cap(1.01, experiment) == 21
    rows = predictions.read(folder_of("evaluate", "t", "average-3") / "clean" / "zero-shot-keep.parquet")
    for tokens, hit, seconds in zip(rows["new_tokens"], rows["cap_hit"], rows["duration_s"], strict=True):
        assert tokens <= answering.cap(seconds, experiment)
        assert not hit or tokens == answering.cap(seconds, experiment)


def test_references_above_the_cap_are_counted_and_the_cap_they_need_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    experiment = config.load("t.yaml")
    test_set = experiment.evaluate.sets[0]
    cached = tiny_run.speech("dev")
    needed = math.ceil(50 / cached.rows[0]["duration_s"])
    items = [batching.Item(cached, 0, ([], []), "one", [1] * count) for count in (16, 40, 50)]
    assert decoding.above_cap(items[:1], experiment, test_set) == 0
    assert capsys.readouterr().err == ""
    assert decoding.above_cap(items, experiment, test_set) == 2
    told = f"2 references are longer than an answer may be; set evaluate.max_new_tokens_per_second to {needed}"
    assert told in capsys.readouterr().err
    scored = records.read(folder_of("evaluate", "t", "average-3") / "clean" / "zero-shot-keep.json")
    assert scored.facts["above_cap"] == 1, "tokens are bytes here, and one reference has more than 20 a second"


def test_a_batch_of_one_and_a_batch_of_many_give_the_same_texts() -> None:
    experiment = config.load("t.yaml")
    model = lalm.load(experiment.base, encoder=False, llm=True, device="cpu")
    decoding.attach(model, folder_of("train", "t", "english", "average-3-keep", 0))
    items = batching.items(model, experiment, experiment.evaluate.sets[0], tiny_run.speech("dev"))
    results = []
    for size in (1, 3, 8):
        section = experiment.evaluate.model_copy(update={"batch": size})
        results.append(decoding.decode(model, experiment.model_copy(update={"evaluate": section}), items))
    assert results[0] == results[1] == results[2]


def test_the_subset_is_fixed_by_the_ids(finished: Path) -> None:
    experiment = config.load("t.yaml")
    model = lalm.load(experiment.base, encoder=False, llm=True, device="cpu")
    cached = tiny_run.speech("dev")
    part = experiment.evaluate.sets[1]
    five = [item.at for item in batching.items(model, experiment, part, cached, 5)]
    three = [item.at for item in batching.items(model, experiment, part, cached, 3)]
    assert set(three) < set(five)
    assert five == sorted(five)


def test_an_adapter_that_is_missing_is_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--config", "t.yaml", "--cell", "none-1"]) == 1
    assert "none-1" in capsys.readouterr().err


def test_a_language_that_is_not_there_is_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((finished / "t.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["sets"] = [
        {"name": "clean", "corpus": "synthetic", "split": "dev", "task": "transcribe", "language": "fr"}
    ]
    (finished / "fr.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert evaluate.main(["--config", "fr.yaml", "--cell", "average-3"]) == 1
    assert "no utterance to transcribe (fr)" in capsys.readouterr().err
    assert (folder_of("evaluate", "t", "average-3") / "clean" / "zero-shot-keep.json").exists()
