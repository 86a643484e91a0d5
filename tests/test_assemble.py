"""A base that is assembled: the files it is read from, what joins them, and the stage as a user runs it."""

import json
import signal
import struct
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from concertina import config, console, data, features, metrics
from concertina.artefacts import keys, layout
from concertina.bases import join
from concertina.bases.joined import alignment, ctranslate2, finetuning, heard, joined, pretrained
from concertina.checks import whisper
from concertina.config import ConfigError, Pretrained
from concertina.model import lalm
from concertina.reporting import prose
from concertina.store import records, sealing
from concertina.training import gradients

ROOT = Path(__file__).parent.parent
END = "<|im_end|>"
PROMPTS = {"transcribe": "<|AUDIO|>write", "translate": "<|AUDIO|>to {target}"}
RECIPE = {
    "shares": [0.6, 0.4],
    "alignment": {"steps": 6, "batch": 4, "learning_rate": 3e-3},
    "finetuning": {"steps": 4, "batch": 2, "learning_rate": 1e-3, "projector_learning_rate": 1e-3},
    "warmup_share": 0.1,
    "longest_s": 6,
    "checkpoint_s": 1000,
    "threads": 1,
    "seed": 0,
}
OVERLAY = {
    "name": "joint",
    "base": {
        "assembled": {
            "encoder": {"model": "whisper"},
            "llm": {"model": "llm"},
            "parts": [
                {"corpus": "synthetic", "split": "train", "task": "transcribe", "language": "en"},
                {"corpus": "synthetic", "split": "train", "task": "translate", "language": "en", "to": "de"},
            ],
            "recipe": RECIPE,
        },
        "prompts": PROMPTS,
    },
    "data": {"corpora": [{"name": "synthetic", "splits": {"train": {"en": 16}, "dev": {"en": 4}, "clean": {"en": 4}}}]},
    "train": {
        "sets": [
            {
                "name": "own",
                "parts": [{"corpus": "synthetic", "split": "train", "task": "transcribe", "language": "en"}],
                "dev": [{"corpus": "synthetic", "split": "dev", "task": "transcribe", "language": "en"}],
            }
        ]
    },
    "evaluate": {
        "sets": [{"name": "clean", "corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"}]
    },
}


def small_whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    shape = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
    tokens = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1}
    whisper = WhisperConfig(
        vocab_size=50, d_model=64, encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=500, **shape, **tokens
    )
    return WhisperForConditionalGeneration(whisper).eval()


def small_llm(folder: Path) -> None:
    """A Llama with a byte tokenizer, in the hub's layout; grouped queries, tied head."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({token: i for i, token in enumerate([END, *alphabet])}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=END, pad_token=END).save_pretrained(folder)
    torch.manual_seed(1)
    llama = LlamaConfig(
        vocab_size=257,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=0,
        pad_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(llama).save_pretrained(folder)


def whisper_tokenizer(folder: Path) -> None:
    """Whisper's special tokens and a few letters."""
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    tokens = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *"abcdefghij"])}, []))
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(special)
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=special[0]).save_pretrained(folder)


def as_ctranslate2(model: WhisperForConditionalGeneration) -> bytes:
    """A Whisper as CTranslate2 writes it, in half precision."""
    state = {name.removeprefix("model."): t for name, t in model.state_dict().items() if name != "proj_out.weight"}
    variables: dict[str, torch.Tensor] = {"decoder/num_heads": torch.tensor(1), "encoder/num_heads": torch.tensor(1)}
    for side in ("encoder", "decoder"):
        variables[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        variables |= _normed(f"{side}/layer_norm", state, f"{side}.layer_norm")
        for n in range(2):
            theirs, ours = f"{side}/layer_{n}", f"{side}.layers.{n}"
            blocks = {"self_attention": "self_attn"} | ({"attention": "encoder_attn"} if side == "decoder" else {})
            for block, name in blocks.items():
                variables |= _attention(f"{theirs}/{block}", state, f"{ours}.{name}", block == "self_attention")
            variables |= _normed(f"{theirs}/ffn/layer_norm", state, f"{ours}.final_layer_norm")
            for linear, name in (("linear_0", "fc1"), ("linear_1", "fc2")):
                for kind in ("weight", "bias"):
                    variables[f"{theirs}/ffn/{linear}/{kind}"] = state[f"{ours}.{name}.{kind}"]
    for convolution in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            variables[f"encoder/{convolution}/{kind}"] = state[f"encoder.{convolution}.{kind}"]
    variables["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    out = struct.pack("<I", 6) + _text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, tensor in variables.items():
        array = tensor.half().numpy() if tensor.is_floating_point() else tensor.to(torch.int16).numpy()
        out += _text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        out += struct.pack("<BI", 4 if tensor.is_floating_point() else 2, array.nbytes) + array.tobytes()
    return out + struct.pack("<I", 1) + _text("decoder/projection/weight") + _text("decoder/embeddings/weight")


def _text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def _normed(theirs: str, state: dict[str, torch.Tensor], ours: str) -> dict[str, torch.Tensor]:
    return {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}


def _attention(theirs: str, state: dict[str, torch.Tensor], ours: str, own: bool) -> dict[str, torch.Tensor]:
    q, k, v, o = (f"{ours}.{name}_proj" for name in ("q", "k", "v", "out"))
    no_bias = torch.zeros(64)
    joint = {"linear_0": [q, k, v], "linear_1": [o]} if own else {"linear_0": [q], "linear_1": [k, v], "linear_2": [o]}
    found = _normed(f"{theirs}/layer_norm", state, f"{ours}_layer_norm")
    for linear, names in joint.items():
        found[f"{theirs}/{linear}/weight"] = torch.cat([state[f"{name}.weight"] for name in names])
        found[f"{theirs}/{linear}/bias"] = torch.cat([state.get(f"{name}.bias", no_bias) for name in names])
    return found


def test_a_whisper_in_ctranslate2s_format_is_the_same_whisper(tmp_path: Path) -> None:
    model = small_whisper().half().float()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/model.bin").write_bytes(as_ctranslate2(model))
    read = pretrained.whisper(Pretrained(model=str(tmp_path)))
    mel, ids = torch.randn(2, 80, 1000), torch.tensor([[1, 2, 3]] * 2)
    with torch.inference_mode():
        expected, found = (m(input_features=mel, decoder_input_ids=ids).logits for m in (model, read))
    assert expected.std() > 0.01
    assert torch.allclose(expected, found, atol=1e-5)


@pytest.mark.parametrize("harm", [lambda b: b[:-900], lambda b: b"x" * 40, lambda b: b + b"more", lambda b: b""])
def test_a_model_that_is_cut_or_something_else_is_damaged(tmp_path: Path, harm: object) -> None:
    (tmp_path / "model.bin").write_bytes(harm(as_ctranslate2(small_whisper())))  # type: ignore[operator]
    with pytest.raises(sealing.DamagedError, match=r"model\.bin is not a Whisper model"):
        ctranslate2.read(tmp_path / "model.bin")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small Whisper, a small LLM, some speech, and the base that the stage makes of them."""
    folder = tmp_path_factory.mktemp("assembled")
    small_whisper().save_pretrained(folder / "whisper")
    whisper_tokenizer(folder / "whisper")
    small_llm(folder / "llm")
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "joint.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    with chdir(folder):
        for split in ("train", "clean"):
            assert data.main(["--config", "joint.yaml", "--corpus", "synthetic", "--split", split]) == 0
        assert join.main(["--config", "joint.yaml"]) == 0
        yield folder


@pytest.mark.slow
def test_the_base_is_a_checkpoint_like_any_other(project: Path) -> None:
    chosen = config.load("joint.yaml")
    model = lalm.load(chosen.base, encoder=True, llm=True)
    assert model.model.lm_head.weight is model.llm.embed_tokens.weight
    (frames_TD,) = features.encode(model, [np.zeros(16_000, np.int16)], 10**6)
    assert frames_TD.shape == (25, 64)
    prompt = lalm.prompt_ids(model, chosen.base, "transcribe", "en", None)
    tokens_ND = lalm.project(model, torch.from_numpy(frames_TD))
    inputs = lalm.embed(model, [prompt], tokens_ND, [25], torch.arange(25), [25], pad_left=True)
    (said,) = lalm.generate(model, inputs, [5])
    assert len(said.ids) <= 5
    assert features.main(["--config", "joint.yaml", "--corpus", "synthetic", "--split", "clean"]) == 0


@pytest.mark.slow
def test_the_encoder_is_untouched_and_the_rest_has_learnt(project: Path) -> None:
    base = lalm.load(config.load("joint.yaml").base, encoder=True, llm=True)
    before = pretrained.whisper(Pretrained(model="whisper")).model.encoder.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.encoder.state_dict().items())
    llm, _ = pretrained.llm(Pretrained(model="llm"))
    weight = "layers.0.self_attn.q_proj.weight"
    assert not torch.equal(base.llm.state_dict()[weight], llm.model.state_dict()[weight])
    curve = [json.loads(line) for line in Path("build/joint/base/curve.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in curve] == ["ctc"] * 6 + ["lm"] * 4
    record = records.read(Path("build/joint/base/record.json"))
    sentences = Path("build/joint/base/sentences.txt").read_text().splitlines()
    assert record.facts["utterances"] == [len(sentences)] * 2


@pytest.mark.slow
def test_made_again_it_is_the_same_to_the_last_bit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before = sealing.sha256(weights)
    assert join.main(["--config", "joint.yaml"]) == 0
    assert sealing.sha256(weights) == before
    assert capsys.readouterr().err.count("utterances to hear") == 1  # by both parts of the split


@pytest.mark.slow
def test_a_stopped_finetuning_goes_on_to_the_same_base(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before, loss, done = sealing.sha256(weights), finetuning.loss, list[int]()
    often = config.merge(OVERLAY, {"base": {"assembled": {"recipe": {"checkpoint_s": 0}}}})
    Path("often.yaml").write_text(yaml.safe_dump(often), encoding="utf-8")

    def fails_at_the_third(*about: Any) -> torch.Tensor:
        done.append(1)
        if len(done) == 3:
            raise console.Stopped("the power is gone")
        return loss(*about)

    monkeypatch.setattr(finetuning, "loss", fails_at_the_third)
    assert join.main(["--config", "often.yaml"]) != 0
    assert join.main(["--config", "often.yaml"]) == 0
    assert len(done) == 3 + 2  # two of four steps were kept
    assert sealing.sha256(weights) == before


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6])
def test_a_stopped_alignment_goes_on_to_the_same_base(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before, forward, done = sealing.sha256(weights), alignment.Aligner.forward, list[int]()

    def signals(self: alignment.Aligner, batch: list[heard.Heard]) -> torch.Tensor:
        done.append(1)
        if len(done) == step:
            signal.raise_signal(signal.SIGTERM)
        return forward(self, batch)

    monkeypatch.setattr(alignment.Aligner, "forward", signals)
    assert join.main(["--config", "joint.yaml"]) == 130
    assert f"stopped after {'step 2' if step == 2 else 'step 1'}; " in capsys.readouterr().err
    assert join.main(["--config", "joint.yaml"]) == 0
    assert len(done) == 6  # no step twice
    assert sealing.sha256(weights) == before
    assert list(Path("scratch").glob("*-ctc")) == list(Path("scratch").glob("*-lm")) == []


@pytest.mark.slow
def test_whisper_itself_is_scored_on_the_same_sets(project: Path) -> None:
    assert whisper.main(["--config", "joint.yaml"]) == 0
    record = records.read(layout.whisper("joint") / "record.json")
    fact = record.facts["clean"]
    lines = json.loads((layout.whisper("joint") / "clean.json").read_text(encoding="utf-8"))
    assert fact["n_utterances"] == len(lines) == 4
    wer = metrics.load("wer").score([x["reference"] for x in lines], [x["hypothesis"] for x in lines], "en").value
    assert fact["scores"]["wer"]["value"] == pytest.approx(wer)
    assert fact["scores"]["wer"]["low"] <= wer <= fact["scores"]["wer"]["high"]
    (told,) = prose.whisper(record, ["wer"])
    assert f"WER {wer:.1f} [" in told
    assert "on clean" in told


def test_whisper_is_decoded_as_transformers_decodes_it() -> None:
    model, start = small_whisper(), [3, 4]
    mel_BML = torch.randn(2, 80, 1000)
    expected = model.generate(
        input_features=mel_BML,
        decoder_input_ids=torch.tensor([start] * 2),
        max_new_tokens=12,
        do_sample=False,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        return_timestamps=False,
    )
    found = whisper._greedy(model, mel_BML, start, 0)
    for ours, theirs in zip(found, expected[:, len(start) :].tolist(), strict=True):
        upto = theirs.index(0) if 0 in theirs else len(theirs)
        assert ours[:upto] == theirs[:upto]
        assert upto > 0


@pytest.mark.slow
def test_what_reads_a_base_knows_which_one_it_was(project: Path) -> None:
    chosen = config.load("joint.yaml")
    assert keys.base_seals(chosen) == [sealing.read_seal(layout.base("joint"))["run_key"]]
    harmed = Path("build/joint/base/config.json")
    whole = harmed.read_bytes()
    harmed.write_bytes(whole + b" ")
    with pytest.raises(sealing.DamagedError, match=r"config\.json is damaged"):
        lalm.load(chosen.base, encoder=True, llm=True)
    harmed.write_bytes(whole)


def test_alignment_finds_the_tokens_that_are_spoken() -> None:
    torch.manual_seed(0)
    model = joined.join(small_whisper(), *_llm())
    aligner = alignment.Aligner(model, ["ab", "ba"])
    projector = aligner.projector.requires_grad_(True)
    spoken = {"ab": torch.randn(12, 64), "ba": torch.randn(12, 64)}
    batch = [heard.Heard(frames.half(), text, ([], []), []) for text, frames in spoken.items()]
    optimiser = torch.optim.AdamW(aligner.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        aligner(batch).backward()
        optimiser.step()
    for text, frames_TD in spoken.items():
        best = aligner.scores(frames_TD[None])[0].argmax(-1).unique_consecutive().tolist()
        assert model.tokenizer.decode([aligner.tokens[k - 1] for k in best if k]).strip() == text
    aligner.rescale(batch)
    lengths = (projector(torch.cat(list(spoken.values()))) - aligner.mean_D).norm(dim=-1)
    assert float(lengths.mean().detach()) == pytest.approx(aligner.norm, rel=1e-3)


def test_a_step_that_is_divided_has_the_gradients_of_the_whole() -> None:
    torch.manual_seed(0)
    model = joined.join(small_whisper(), *_llm())
    recipe = {**RECIPE["finetuning"], "batch_tokens": 45}  # type: ignore[dict-item]
    chosen = join.read_recipe({**RECIPE, "finetuning": recipe}, 2).finetuning
    batch = [heard.Heard(torch.randn(n, 64).half(), "", ([1], [2, 3]), list(range(4, 4 + n))) for n in (3, 9, 5, 11)]
    projector, llm = finetuning.learners(model)
    for parameter in (*projector, *llm):
        parameter.requires_grad_(True)
    finetuning.loss(model, batch).backward()
    whole = [p.grad.clone() for p in (*projector, *llm) if p.grad is not None]
    model.model.zero_grad()
    parts = list(gradients.divided(batch, chosen.batch_tokens, finetuning.positions))
    for part, share in parts:
        (finetuning.loss(model, part) * share).backward()
    divided = [p.grad for p in (*projector, *llm) if p.grad is not None]
    assert [len(part) for part, _ in parts] == [2, 1, 1]
    assert len(whole) == len(divided) > 10
    for ours, theirs in zip(divided, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def _llm() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        small_llm(Path(folder))
        return pretrained.llm(Pretrained(model=folder))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shares": [0.5, 0.2, 0.3]}, r"shares: one for each of the 2 parts"),
        ({"treads": 2}, r"unknown key base\.assembled\.recipe\.treads.*threads"),
        ({"longest_s": -1}, r"base\.assembled\.recipe\.longest_s"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        join.read_recipe({**RECIPE, **change}, 2)


def test_the_config_says_what_is_wrong_with_a_base(tmp_path: Path) -> None:
    base = {**OVERLAY["base"], "revision": "main"}  # type: ignore[dict-item]
    for bad, told in (
        ({**OVERLAY, "base": base}, "exclude each other"),
        ({**OVERLAY, "base": {**base, "revision": "", "assembled": {"encoder": {}}}}, "either `package`"),
    ):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad), encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            config.load(tmp_path / "bad.yaml")
