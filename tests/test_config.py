"""The config refuses what it does not know, by path and with the nearest valid name; overlays merge by one rule."""

from pathlib import Path

import pytest
import yaml

from concertina import compressors
from concertina.artefacts import keys
from concertina.config import UNCOMPRESSED, Cell, Config, ConfigError, Ratio, load, merge

ROOT = Path(__file__).parent.parent
PART = "{corpus: synthetic, split: train, task: transcribe, language: en}"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    return load(tmp_path / "overlay.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trian: {steps: 1}", "unknown key trian (did you mean 'train'?)"),
        ("train: {stepps: 1}", "unknown key train.stepps (did you mean 'steps'?)"),
        ("train: {processes: 2}", "unknown key train.processes"),
        ("train: {lora: {rnak: 1}}", "unknown key train.lora.rnak (did you mean 'rank'?)"),
        (
            "segments: {cells: [{compressor: average, ratoi: [2]}]}",
            "unknown key segments.cells.0.ratoi (did you mean 'ratios'?)",
        ),
        (
            "evaluate: {sets: [{name: a, corpus: synthetic, split: dev, tsk: transcribe, language: en}]}",
            "unknown key evaluate.sets.0.tsk (did you mean 'task'?)",
        ),
        ("segments: {cells: [{compressor: average, ratios: [0.5]}]}", "at least 1; got 0.5"),
        ("segments: {cells: [{compressor: average, ratios: [.nan]}]}", "at least 1; got nan"),
        ("segments: {cells: [{compressor: average, ratios: [true]}]}", "at least 1; got True"),
        ("segments: {cells: [{compressor: average, ratios: [wide]}]}", "at least 1; got 'wide'"),
        ("segments: {cells: [{compressor: average, ratios: [2, 2.0]}]}", "average-2-renumber occurs more than once"),
        (
            "evaluate: {sets: [{name: a, corpus: synthetik, split: x, task: transcribe, language: en}]}",
            "evaluate.sets.a: no corpus 'synthetik' in data.corpora (did you mean 'synthetic'?)",
        ),
        (
            "evaluate: {sets: [{name: a, corpus: synthetic, split: x, task: translate, language: en}]}",
            "`to` (a language) belongs to task translate",
        ),
        (
            "train: {sets: [{name: a, seeds: [7], parts: [PART], dev: [PART]}]}".replace("PART", PART),
            "train.sets.a: no cell of the grid has one of its seeds [7]",
        ),
        ("evaluate: {skipped: {a: b}}", "unknown key evaluate.skipped"),
        ("base: {sha256: 123abc}", "base.sha256: String should match pattern"),
        ("train: {steps: 0}", "train.steps: Input should be greater than 0"),
        ("name: Not A Name", "name: String should match pattern"),
        ("train: [", "not valid YAML"),
        (
            "train:\n  steps: 1\nreport: {}\ntrain:\n  batch: 2\n",
            "the key 'train' stands twice, in lines 1 and 4; keep one",
        ),
        ("train: {steps: 1, batch: 2, steps: 3}", "the key 'steps' stands twice, in lines 1 and 1"),
        (
            "evaluate: {sets: [{name: a, corpus: synthetic, split: dev, task: transcribe, language: no}]}",
            "evaluate.sets.0.language: YAML reads no, yes, on and off as truth values; put the word in quotes",
        ),
        ("just text", "a config is a mapping of sections"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    assert told in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "overlay.yaml"))


def test_a_config_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"configs/nowhere\.yaml: no such config"):
        load("configs/nowhere.yaml")


def test_a_folder_and_a_file_that_is_not_utf_8_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r": this is a folder; a config is a file"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: tiny\nreport: {title: Größe}\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: line 2 is not UTF-8; save the file"):
        load(tmp_path / "latin.yaml")


def test_a_model_without_folder_or_revision_is_an_error_of_the_plan(tmp_path: Path) -> None:
    config = loaded(tmp_path, "base: {model: Qwen/Qwen2-Audio-7B}")
    with pytest.raises(ConfigError, match=r"base\.model: no folder Qwen/Qwen2-Audio-7B; .*`revision`"):
        keys.check(config)


@pytest.mark.parametrize(
    ("text", "file", "nearest"),
    [
        ("segments: {cells: [{compressor: averge, ratios: [2]}]}", "src/concertina/compressors/averge.py", "average"),
        ("evaluate: {metrics: {transcribe: [werr], translate: [bleu]}}", "src/concertina/metrics/werr.py", "wer"),
        ("data: {corpora: [{name: synthetic, kind: synthtic}]}", "src/concertina/corpora/synthtic.py", "synthetic"),
    ],
)
def test_a_plugin_without_a_file_is_an_error_naming_the_file(
    tmp_path: Path, text: str, file: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as error:
        keys.check(loaded(tmp_path, text))
    assert file in str(error.value)
    assert f"did you mean '{nearest}'?" in str(error.value)


def test_a_set_whose_package_is_missing_is_left_out_with_the_reason(tmp_path: Path) -> None:
    sets = [
        {"name": name, "corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"} for name in "ab"
    ]
    config = loaded(tmp_path, yaml.safe_dump({"evaluate": {"sets": [sets[0], sets[1] | {"needs": "no_such_package"}]}}))
    assert [test_set.name for test_set in config.evaluate.sets] == ["a"]
    assert "no_such_package is not installed" in config.evaluate.skipped["b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def cut(frames, ratio): ...", "its function must be cut(speech, ratio, *, ...)"),
        ("def cut(speech, ratio, *, k): ...", "give option k of cut a plain constant as default"),
        ("def cut(speech", "line 1 of"),
    ],
)
def test_a_compressors_file_that_cannot_be_used_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setattr(compressors, "FOLDER", tmp_path)
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"compressor own: ") as error:
        compressors.check_cell(Cell("own", Ratio(3.0)))
    assert told in str(error.value)


def test_mappings_merge_and_everything_else_replaces() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 1}]}
    assert merge(base, {"a": {"c": [3]}, "d": []}) == {"a": {"b": 1, "c": [3]}, "d": []}
    assert merge(base, {}) == base
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_an_overlay_says_only_what_differs(tmp_path: Path) -> None:
    config = loaded(tmp_path, "name: other\nsegments: {cells: [{compressor: none, ratios: [1]}]}\n")
    default = load()
    assert config.name == "other"
    assert config.cells == [UNCOMPRESSED]
    assert config.train == default.train
    assert config.segments.positions == default.segments.positions


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT) for p in ROOT.glob("configs/*.yaml")), ids=str)
def test_every_shipped_config_loads_and_has_its_own_name(path: Path) -> None:
    config = load(path)
    refused = ""
    try:
        keys.check(config)
    except ConfigError as error:
        refused = str(error)
    assert not refused or "commonvoice.mozilla.org" in refused  # speech that a user downloads after accepting its terms
    names = [load(other).name for other in (Path("config.yaml"), *Path("configs").glob("*.yaml"))]
    assert names.count(config.name) == 1


def test_every_key_of_the_default_is_commented_with_what_it_is() -> None:
    silent, depth_of_lists = [], None
    for line in (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines():
        depth = len(line) - len(line.lstrip())
        if depth_of_lists is not None and depth >= depth_of_lists:
            continue  # the entries of a list are experiments, not keys
        depth_of_lists = None
        if line.lstrip().startswith("-"):
            depth_of_lists = depth
        elif ":" in line and "#" not in line and not line.lstrip().startswith("#"):
            silent.append(line.strip())
    speaking = ("targets:", "transcribe:", "translate:")
    assert [line for line in silent if not line.endswith(":") and not line.startswith(speaking)] == []


def test_ratios_are_spelled_one_way() -> None:
    assert [str(Ratio.parse(value)) for value in (1.0, "2.50", 3, "natural")] == ["1", "2.5", "3", "natural"]
    assert sorted(map(Ratio.parse, ("natural", 3, 2.5, 1))) == [Ratio(1), Ratio(2.5), Ratio(3), Ratio(None)]
    for value in ("2x", "", 0.5, True, float("nan"), None):
        with pytest.raises(ValueError, match="a ratio is 'natural' or a number of frames per token"):
            Ratio.parse(value)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().train.steps = 3


def test_the_smoke_config_has_every_default_compressor_and_the_default_base() -> None:
    smoke, default = load("configs/smoke.yaml"), load()
    assert {cell.compressor for cell in smoke.cells} == {cell.compressor for cell in default.cells}
    assert smoke.segments.positions == default.segments.positions
    assert smoke.base == default.base
