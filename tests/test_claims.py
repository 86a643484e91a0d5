"""Claims: what their file may say, and how a report judges them by results with one seed, with three and with none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from concertina import report
from concertina.artefacts import keys
from concertina.config import Config, ConfigError, claims, load
from helpers import made_results
from helpers.reports import ROOT, Page

GRID = [
    {"compressor": "none", "ratios": [1], "seeds": [0, 1, 2]},
    {"compressor": "average", "ratios": [3], "seeds": [0, 1, 2]},
    {"compressor": "sample", "ratios": [3], "seeds": [0, 1, 2]},
    {"compressor": "segment", "ratios": [3], "seeds": [0]},
    {"compressor": "average", "ratios": [2, 6], "seeds": []},
    {"compressor": "segment", "ratios": ["natural"], "seeds": []},
]
SET = {"corpus": "synthetic", "split": "clean", "language": "en"}
SECTIONS: dict[str, Any] = {
    "segments": {"cells": GRID, "positions": ["keep"]},
    "evaluate": {
        "sets": [
            {"name": "clean", **SET, "task": "transcribe"},
            {"name": "second", **SET, "task": "transcribe"},
            {"name": "clean-en-de", **SET, "task": "translate", "to": "de"},
        ]
    },
    "report": {"bootstrap_samples": 2000, "examples": 0, "margins": {"wer": 30.0, "bleu": 1.0}, "bench": False},
}


def loss(of: str, against: str, below: Any = 0, **more: Any) -> dict[str, Any]:
    return {"loss": {"of": of, "against": against}, "below": below, **more}


AVERAGE, SAMPLE, NONE = "average-3 adapted", "sample-3 adapted", "none-1 adapted"
ZERO = {name: f"{name} zero-shot" for name in ("average-3", "average-6", "sample-3", "none-1", "segment-natural")}
TESTS = {
    "better": loss(AVERAGE, SAMPLE),
    "worse": loss(SAMPLE, AVERAGE),
    "close": loss(AVERAGE, NONE, "margin"),
    "few-seeds": loss("segment-3 adapted", SAMPLE),
    "zero-shot": loss(ZERO["average-3"], ZERO["sample-3"]),
    "same": loss(AVERAGE, AVERAGE),
    "bend": loss(ZERO["average-3"], ZERO["none-1"], {"of": ZERO["average-6"], "against": ZERO["average-3"]}),
    "curve": loss(ZERO["segment-natural"], "curve of average-keep zero-shot"),
    "elsewhere": loss("average-3-renumber zero-shot", ZERO["average-3"]),
    "other-set": loss(ZERO["average-3"], ZERO["sample-3"], sets=["second"]),
}


def wrong(compressor: str, ratio: str, adapted: bool, seed: int | None) -> float:
    """The share of wrong words: small steps to 3 frames per token, large ones from there."""
    own = {"none": 0.02, "average": 0.12, "sample": 0.35, "segment": 0.2}[compressor]
    far = {"6": 0.5, "natural": 0.5}.get(ratio, 0.0)
    return own + far + (0.0 if adapted else 0.03) + 0.002 * (seed or 0)


def write(tests: dict[str, dict[str, Any]], **about: Any) -> None:
    """Write a file of claims with one test each."""
    each = [
        {"id": name, "statement": f"{name}.", "source": "x", "tests": [test], **about} for name, test in tests.items()
    ]
    Path("reference/claims.yaml").write_text(yaml.safe_dump({"claims": each}), encoding="utf-8")


def verdicts(config: Config, path: Path) -> dict[str, dict[str, Any]]:
    """Make the report, and return each claim as its JSON has it."""
    report.make(config, path)
    found = json.loads(Path("results/tiny/report/claims.json").read_text(encoding="utf-8"))
    return {one["claim"]: one for one in found}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(ROOT / "config.yaml", ".")
        made_results.write(made_results.config(Path(), **SECTIONS)[0], 100, wrong)
    return folder


@pytest.fixture
def judged(results: Path, here: Path) -> tuple[Config, Path]:
    """The made-up results, in the working folder."""
    shutil.copytree(results, here, dirs_exist_ok=True)
    return load("overlay.yaml"), Path("overlay.yaml")


def test_each_verdict_comes_about_as_it_should(judged: tuple[Config, Path]) -> None:
    write(TESTS)
    found = verdicts(*judged)
    assert {name: one["verdict"] for name, one in found.items()} == {
        "better": "supported",
        "worse": "contradicted",
        "close": "contradicted",  # within 30 points of WER, not within 1 of BLEU
        "few-seeds": "undecided",
        "zero-shot": "supported",
        "same": "undecided",
        "bend": "supported",
        "curve": "contradicted",
        "elsewhere": None,  # the experiment has no renumbered cells
        "other-set": "supported",
    }
    close = {test["test_set"]: test for test in found["close"]["tests"]}
    assert {name: test["verdict"] for name, test in close.items()} == {
        "clean": "supported",
        "clean-en-de": "contradicted",
    }
    assert (close["clean"]["limit"], close["clean-en-de"]["limit"]) == (30, 1)
    assert all(len(test["per_seed"]) == 3 and test["signs_p"] == 0.25 for test in close.values())
    better, worse = (found[name]["tests"][0] for name in ("better", "worse"))
    assert better["effect"] == -worse["effect"]
    assert better["low"] < better["effect"] < better["high"] < 0
    assert better["rests_on"] == ["average-3-keep adapted on english", "sample-3-keep adapted on english"]
    assert "1 LoRA seed on both sides; 3 are needed" in found["few-seeds"]["tests"][0]["why"]
    assert found["same"]["tests"][0]["why"] == "an exact tie"
    assert [test["test_set"] for test in found["other-set"]["tests"]] == ["second"]


def test_p_is_adjusted_for_every_test_that_could_be_decided(judged: tuple[Config, Path]) -> None:
    smallest = 2 / 2001
    write({name: TESTS[name] for name in ("zero-shot", "few-seeds")})
    assert verdicts(*judged)["zero-shot"]["tests"][0]["p"] == pytest.approx(2 * smallest, abs=1e-4)
    write({name: TESTS[name] for name in ("zero-shot", "few-seeds", "bend", "other-set")})
    assert verdicts(*judged)["zero-shot"]["tests"][0]["p"] == pytest.approx(5 * smallest, abs=1e-4)
    write(dict.fromkeys(("one", "the-same-again"), TESTS["zero-shot"]))  # a test that two claims share counts once
    assert verdicts(*judged)["one"]["tests"][0]["p"] == pytest.approx(2 * smallest, abs=1e-4)


def test_better_is_said_of_what_was_judged_and_lower_of_the_rest(judged: tuple[Config, Path]) -> None:
    def said() -> str:
        verdicts(*judged)
        return Path("results/tiny/report/table.md").read_text(encoding="utf-8")

    write({"better": TESTS["worse"]})
    text = said()
    assert "average (kept) is better (adjusted for all claims judged) than sample (" in text
    assert "it is lower in this run than segment (" in text or "it cannot be distinguished from segment (" in text
    write({"zero-shot": TESTS["zero-shot"]})
    text = said()
    assert "average (kept) is lower in this run than sample (" in text
    assert "better" not in text.split("**Claims.**")[0]


def test_a_bench_decides_no_claim_of_the_paper(judged: tuple[Config, Path], here: Path) -> None:
    config = made_results.config(here, **SECTIONS | {"report": {**SECTIONS["report"], "bench": True}})
    write({"better": TESTS["better"]}, paper=True)
    verdicts(*config)
    page = Path("results/tiny/report.html").read_text(encoding="utf-8")
    rows = Page(page).rows
    assert ["better. (x)", "supported, on a bench only", "2 supported"] in rows
    assert "decides no claim of the paper" in page
    assert "1 supported on this test bench" in Path("results/tiny/report/summary.txt").read_text(encoding="utf-8")
    write({"better": TESTS["better"]}, paper=False)
    verdicts(*config)
    assert ["better. (x)", "supported", "2 supported"] in Page(Path("results/tiny/report.html").read_text()).rows


def test_what_would_decide_is_said(judged: tuple[Config, Path], here: Path) -> None:
    metrics = {"metrics": {"transcribe": ["cer", "wer"]}}
    config = made_results.config(here, **SECTIONS | {"evaluate": {**SECTIONS["evaluate"], **metrics}})
    write({"close": TESTS["close"], "nearly": loss("average-2 zero-shot", ZERO["average-3"])})
    found = verdicts(*config)
    assert found["close"]["tests"][0]["why"] == "report.margins has none for cer"
    assert found["nearly"]["verdict"] == "undecided"
    assert "utterances" in found["nearly"]["tests"][0]["why"]


def test_the_papers_figures_stand_beside_ours(judged: tuple[Config, Path]) -> None:
    figure = {"side": "average-3-keep adapted", "set": "clean", "metric": "wer", "value": 2.5, "where": "Table 2"}
    absent = {**figure, "side": "average-4 adapted", "where": "Table 3"}
    Path("reference/paper_table.yaml").write_text(yaml.safe_dump({"figures": [figure, absent]}), encoding="utf-8")
    verdicts(*judged)
    rows = {row[-1]: row for row in Page(Path("results/tiny/report.html").read_text(encoding="utf-8")).rows if row}
    ours = float(rows["Table 2"][4])
    assert rows["Table 2"][3] == "2.5"
    assert float(rows["Table 2"][5]) == pytest.approx(ours - 2.5, abs=0.11)
    assert rows["Table 3"][4:6] == ["–", "–"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statment": "x"}, "claim a: statment: unknown key (did you mean 'statement'?)"),
        ({"tests": [loss("average-3", NONE)]}, "claim a: tests.0.loss.of: write 'CELL zero-shot', 'CELL adapted'"),
        ({"tests": [loss(AVERAGE, NONE, "much")]}, "claim a: tests.0.below: write a number of points, `margin`, or"),
        ({"tests": [loss(AVERAGE, NONE, {"of": AVERAGE})]}, "claim a: tests.0.below.Loss.against: Field required"),
        ({"tests": []}, "claim a: tests: List should have at least 1 item"),
    ],
)
def test_an_error_names_file_claim_and_key(here: Path, change: dict[str, Any], message: str) -> None:
    claim = {"id": "a", "statement": "s", "source": "x", "tests": [loss(AVERAGE, NONE)]}
    path = Path("reference/claims.yaml")
    path.write_text(yaml.safe_dump({"claims": [{**claim, **change}]}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        claims.read(path)
    assert str(error.value).startswith(f"reference/claims.yaml: {message}")
    assert "\n" not in str(error.value)
    assert ";" not in str(error.value)


def test_what_is_wrong_with_the_files_is_said_before_a_run(here: Path) -> None:
    Path("models/tiny").mkdir(parents=True)
    write({"better": loss("avrage-3 adapted", NONE)})
    with pytest.raises(ConfigError, match=r"avrage.*did you mean 'average'"):
        keys.check(load())
    write({"better": TESTS["better"]})
    Path("reference/paper_table.yaml").unlink()
    with pytest.raises(ConfigError, match=r"reference/paper_table.yaml: no such file; see report.paper_table"):
        keys.check(load())


def test_claims_margins_and_judged_sets_decide_the_report_and_nothing_else(here: Path) -> None:
    def decisive(config: Config) -> tuple[Any, ...]:
        cell = config.cells[1]
        adapter, decoded = keys.train(config, "english", cell, 0), keys.decode(config, cell, "clean", "zero-shot")
        return keys.report(config), [adapter, decoded, keys.evaluate(config, cell)]

    report_key, others = decisive(load())
    write({"better": TESTS["better"]})
    changed = [decisive(load())]
    sets = [
        {"name": "clean", **SET, "task": "transcribe", "judged": True},
        *load().model_dump()["evaluate"]["sets"][1:],
    ]
    for sections in ({"report": {"margins": {"wer": 0.5}}}, {"evaluate": {"sets": sets}}):
        changed.append(decisive(made_results.config(here, **sections)[0]))
    assert [other for _, other in changed] == [others] * 3
    assert len({json.dumps(key, default=str) for key in (report_key, *(key for key, _ in changed))}) == 4
