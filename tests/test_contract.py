"""A compressor that breaks its contract is named with the rule, and a cell that cannot be made with the remedy."""

import importlib
import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from concertina import compressors, config, segments
from concertina.artefacts import keys
from concertina.compressors import ContractError, _contract
from concertina.compressors._segments import Segments, pool
from concertina.compressors._utterances import Utterances
from concertina.config import Cell, ConfigError, Ratio

ROOT = Path(__file__).parents[1]
NUMBER = itertools.count()  # a name is imported once
Plugin = Callable[[str], str]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Gives a function that writes a compressor's source into a file, beside the real ones, and returns its name."""
    real = compressors.FOLDER
    folder = tmp_path / "compressors"
    folder.mkdir()
    for path in real.glob("[!_]*.py"):
        (folder / path.name).symlink_to(path)
    monkeypatch.setattr(compressors, "FOLDER", folder)
    monkeypatch.setattr(compressors, "__path__", [str(real), str(folder)])

    def write(source: str) -> str:
        path = folder / f"written_by_a_test_{next(NUMBER)}.py"
        path.write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return path.stem

    return write


def cell(compressor: str, ratio: float | str = 3, **options: Any) -> Cell:
    return Cell(compressor, Ratio.parse(ratio), options)


def noise(lengths: list[int]) -> Utterances:
    frames_TD = torch.randn(sum(lengths), 4, generator=torch.Generator().manual_seed(0))
    return Utterances(torch.tensor(lengths), {"frames": frames_TD, "seeds": torch.arange(len(lengths))})


def decided(name: str, lengths: list[int], ratio: float | str = 3, **options: Any) -> Segments:
    """What a compressor decides for noise, alike alone and in other company."""
    decide, batch = segments.decider(cell(name, ratio, **options)), noise(lengths)
    answer = decide(batch)
    _contract.check_company(decide, batch, answer, name)
    return answer


IMPORTS = """
import torch
from dataclasses import replace
from concertina.compressors import _ragged, average, sample, segment
from concertina.compressors._segments import Segments
"""
ANSWER = f"""{IMPORTS}
def cut(speech, ratio):
    good = average.cut(speech, ratio)
    return """


class TestBrokenContract:
    @pytest.mark.parametrize(
        ("answer", "rule"),
        [
            ("(good.lengths_N, good.counts_B)", "its `cut` must return Segments, not tuple"),
            ("replace(good, lengths_N=good.lengths_N * 1.0)", "lengths_N must be a row of whole numbers, not float32"),
            (
                "replace(good, lengths_N=good.lengths_N * 2)",
                "an utterance's tokens must have all of its frames, here 6, not 12",
            ),
            ("replace(good, counts_B=good.counts_B + 1)", "counts_B must sum to the 3 tokens of lengths_N, not 5"),
            ("replace(good, counts_B=good.counts_B[:1])", "counts_B must have one number per utterance, 2, not 1"),
            ("replace(good, weights_T=good.weights_T * 2)", "must sum to 1; here they sum to 2"),
            ("replace(good, weights_T=good.weights_T * float('nan'))", "must lie between 0 and 1; here one is nan"),
            (
                "replace(good, weights_T=torch.tensor([-50.0, 51, 0, 1, 0, 0, 1, 0, 0]))",
                "must lie between 0 and 1; here one is -50",
            ),
            ("replace(good, weights_T=good.weights_T[1:])", "every frame must have a weight: 9 weights, not 8"),
            (
                "average.cut(speech, 2 * ratio)",
                r"6 frames at ratio 3 must become ceil\(6 / 3\) = 2 tokens, not 1 .*`exact = False`",
            ),
            (
                "Segments(torch.tensor([0, 6, 3]), torch.tensor([2, 1]), good.weights_T)",
                "every token must have at least one frame; here one has 0",
            ),
            ("good.weigh(-good.weights_T)", "scores must have a number of at least 0 for each frame"),
            ("good.weigh(good.weights_T[:2])", "scores must have a number of at least 0 for each frame"),
            ("Segments.cut(torch.ones(4) > 0, speech.lengths_B)", "starts must say of each of 9 frames"),
            ("speech.frames_TD", r"its `cut` uses speech\.frames_TD, so `reads` in its file must hold 'frames'"),
            ("speech.seeds_B", r"its `cut` uses speech\.seeds_B, so `reads` in its file must hold 'seeds'"),
            ("speech.cue('energy')", r"uses speech\.cue\('energy'\), so `reads` in its file must hold 'energy'"),
        ],
    )
    def test_is_named_with_its_rule(self, plugin: Plugin, answer: str, rule: str) -> None:
        name = plugin(f"{ANSWER}{answer}\n")
        with pytest.raises(ContractError, match=rf"^compressor {name} breaks its contract: .*({rule})") as error:
            segments.decider(cell(name))(noise([6, 3]))
        assert "\n" not in str(error.value)

    def test_inexact_method_says_so(self, plugin: Plugin) -> None:
        name = plugin(f"exact = False\n{ANSWER}Segments.cut(good.weights_T > 1, speech.lengths_B)\n")
        assert decided(name, [6, 3]).counts_B.tolist() == [1, 1]

    @pytest.mark.parametrize(
        "starts", ["torch.arange(len(good.weights_T)) % 7 == 0", "torch.rand_like(good.weights_T) > 0.5"]
    )
    def test_answer_that_depends_on_the_batch_or_on_luck(self, plugin: Plugin, starts: str) -> None:
        name = plugin(f"exact = False\n{ANSWER}Segments.cut({starts}, speech.lengths_B)\n")
        with pytest.raises(ContractError, match=f"^compressor {name} .*the same alone, in any batch and any order"):
            decided(name, [30, 20, 40])


class TestRulesCombine:
    """A rule where to cut and a rule how to weigh, of different methods, make a compressor of a few lines."""

    def test_cuts_of_one_method_and_weights_of_another(self, plugin: Plugin) -> None:
        name = plugin(
            f"""{IMPORTS}
reads = ("frames",)
natural = True

def cut(speech, ratio, *, phase=0):
    cuts = segment.cut(speech, ratio)
    return cuts.weigh(sample.one_frame(cuts, phase))
"""
        )
        for ratio in (2, 3, 1000, "natural"):
            answer, cuts = decided(name, [40, 1, 2, 75], ratio), decided("segment", [40, 1, 2, 75], ratio)
            assert torch.equal(answer.lengths_N, cuts.lengths_N)
            firsts_N = cuts.lengths_N.cumsum(0) - cuts.lengths_N
            frames_TD = noise([40, 1, 2, 75]).frames_TD
            assert torch.equal(pool(frames_TD, answer), frames_TD[firsts_N])

    def test_a_mean_weighted_by_what_each_frame_is(self, plugin: Plugin) -> None:
        name = plugin(
            f"""{IMPORTS}
reads = ("frames",)

def cut(speech, ratio):
    return average.cut(speech, ratio).weigh(_ragged.dots(speech.frames_TD, speech.frames_TD))
"""
        )
        answer, power_T = decided(name, [6, 2]), noise([6, 2]).frames_TD.square().sum(1)
        assert answer.weights_T[:3].tolist() == pytest.approx((power_T[:3] / power_T[:3].sum()).tolist())
        assert answer.weights_T[6:].tolist() == pytest.approx((power_T[6:] / power_T[6:].sum()).tolist())

    def test_pruning_keeps_single_frames(self, plugin: Plugin) -> None:
        name = plugin(
            f"""{IMPORTS}
reads = ("frames",)

def cut(speech, ratio):
    power_T = _ragged.dots(speech.frames_TD, speech.frames_TD)
    counts_B = _ragged.token_counts(speech.lengths_B, ratio)
    return Segments.keep(_ragged.first_in_each(counts_B, speech.lengths_B, power_T < 0, power_T), speech.lengths_B)
"""
        )
        lengths = [40, 1, 2, 75]
        frames_TD = noise(lengths).frames_TD
        kept = [p[p.square().sum(1).topk(-(-len(p) // 3)).indices.sort().values] for p in frames_TD.split(lengths)]
        assert torch.equal(pool(frames_TD, decided(name, lengths)), torch.cat(kept))

    @pytest.mark.parametrize(("page", "opening"), [("README.md", "Average"), ("CONTRIBUTING.md", "Energy")])
    def test_the_example_of_a_page_keeps_the_contract(self, plugin: Plugin, page: str, opening: str) -> None:
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
        [source] = [block for block in blocks if block.startswith(f'"""{opening}:')]
        answer = decided(plugin(source), [40, 1, 2, 75])
        assert answer.counts_B.tolist() == [14, 1, 1, 25]
        assert opening != "Average" or source == (ROOT / "src/concertina/compressors/average.py").read_text()


class TestCell:
    @pytest.mark.parametrize(
        ("name", "ratio", "options", "message"),
        [
            ("avrage", 3, {}, r"'avrage' has no file .*avrage\.py \(did you mean 'average'\?\)"),
            ("average", "natural", {}, "average has no ratio 'natural'"),
            ("none", 2, {}, r"none does not take ratio 2 \(valid: 1\)"),
            ("sample", 3, {"fase": 1}, r"sample has no option 'fase' \(did you mean 'phase'\?\)"),
            ("average", 3, {"phase": 1}, r"average has no option 'phase' \(it takes none\)"),
            ("sample", 3, {"phase": 4}, r"sample does not take phase: 4 at ratio 3 \(allowed: 0 <= phase < ratio\)"),
            ("sample", 3, {"phase": -1}, r"sample does not take phase: -1 at ratio 3"),
            ("sample", 3, {"phase": "first"}, "sample: option phase must be a whole number, not 'first'"),
            ("sample", 3, {"phase": 0.5}, r"sample: option phase must be a whole number, not 0\.5"),
            ("sample", 3, {"phase": True}, "sample: option phase must be a whole number, not True"),
        ],
    )
    def test_what_is_not_taken_is_named(self, name: str, ratio: float | str, options: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as error:
            compressors.check_cell(cell(name, ratio, **options))
        assert "\n" not in str(error.value)
        with pytest.raises(ConfigError, match=message):
            segments.decider(cell(name, ratio, **options))

    def test_values_are_of_the_kind_of_the_default(self, plugin: Plugin) -> None:
        name = plugin(
            "allowed = {\"scale\": \"scale in ('log', 'linear')\"}\n"
            'def cut(speech, ratio, *, scale="log", power=1.0, centred=False): ...\n'
        )
        for options in ({}, {"scale": "linear"}, {"power": 2}, {"power": 0.5}, {"centred": True}):
            compressors.check_cell(cell(name, 3, **options))
        refused: dict[str, Any]
        for refused, message in (
            ({"scale": "cubic"}, r"scale: 'cubic' at ratio 3 \(allowed: scale in \('log', 'linear'\)\)"),
            ({"scale": 1}, "option scale must be a text, not 1"),
            ({"power": "2"}, "option power must be a number, not '2'"),
            ({"power": float("nan")}, "option power must be a number, not nan"),
            ({"centred": 1}, "option centred must be true or false, not 1"),
        ):
            with pytest.raises(ConfigError, match=message):
                compressors.check_cell(cell(name, 3, **refused))

    def test_a_plan_refuses_a_value_before_any_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        overlay = tmp_path / "overlay.yaml"
        lines = ["{compressor: none, ratios: [1]}", "{compressor: sample, ratios: [4, 3], options: {phase: 3}}"]
        overlay.write_text(f"segments: {{cells: [{', '.join(lines)}]}}\n", encoding="utf-8")
        with pytest.raises(
            ConfigError, match=r"sample does not take phase: 3 at ratio 3 \(allowed: 0 <= phase < ratio"
        ):
            keys.check(config.load(overlay))

    def test_a_plan_imports_no_torch(self) -> None:
        code = (
            "import sys; from concertina import compressors as c; from concertina.config import Cell, Ratio\n"
            "[c.check_cell(Cell('sample', Ratio.parse(3), {'phase': phase})) for phase in (0, 2)]\n"
            "print([c.describe(name).reads for name in c.names()], 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[(), (), ('seeds',), (), ('frames',)] False\n"


CUT = "def cut(speech, ratio): ...\n"


class TestFile:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("def cut(:\n", "line 1 of .* is not Python"),
            ("x = '\0'\n", "is not Python|cannot be read"),
            ("def compress(frames):\n    pass\n", r"it has no function cut\(speech, ratio"),
            ("def cut(frames, ratio): ...\n", r"must be cut\(speech, ratio, \*, \.\.\.\)"),
            ("def cut(speech, ratio, power=1): ...\n", r"each option by its name after the \*"),
            ("def cut(speech, ratio, **options): ...\n", r"each option by its name after the \*"),
            ("def cut(speech, ratio, *, k): ...\n", "give option k of cut a plain constant as default"),
            ("def cut(speech, ratio, *, k=len('ab')): ...\n", "give option k of cut a plain constant as default"),
            ("natural = bool(1)\n" + CUT, "natural must be a plain constant: True or False"),
            ("exact = 'no'\n" + CUT, "exact must be True or False"),
            ("ratios = (0.5,)\n" + CUT, "a ratio is 'natural' or a number .* at least 1; got 0.5"),
            ("reads = ('frames')\n" + CUT, r'reads must be a tuple of names, such as \("frames",\)'),
            ("reads = ('frame',)\n" + CUT, r"reads: there is no 'frame' to read \(did you mean 'frames'\?\)"),
            ("reads = ('attention',)\n" + CUT, r"no 'attention' to read \(valid: frames, seeds\)"),
            ("reads = [name for name in 'ab']\n" + CUT, "reads must be a plain constant"),
            ("allowed = {'k': 'k > 0'}\n" + CUT, "allowed: cut has no option 'k'"),
            ("allowed = {'k': 'k >'}\ndef cut(speech, ratio, *, k=1): ...\n", "the rule for k is no comparison: 'k >'"),
            ("allowed = {'k': 'k > n'}\ndef cut(speech, ratio, *, k=1): ...\n", "options and ratio, not 'n': 'k > n'"),
        ],
    )
    def test_that_is_no_compressor_is_named_with_the_fault(self, plugin: Plugin, source: str, message: str) -> None:
        name = plugin(source)
        assert name in compressors.names()  # so that the contract test has it, and fails by its name
        with pytest.raises(ConfigError, match=rf"^compressor {name}: .*({message})") as error:
            compressors.describe(name)
        assert "\n" not in str(error.value)

    def test_of_bytes_that_are_no_text_is_named(self, plugin: Plugin) -> None:
        name = plugin("")
        (compressors.FOLDER / f"{name}.py").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match=rf"^compressor {name}: .*{name}\.py cannot be read"):
            compressors.describe(name)
