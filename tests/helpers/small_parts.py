"""Make a small random Whisper and a small random LLM to join, as files in their true formats, and some speech."""

import struct
from contextlib import chdir
from pathlib import Path
from typing import Any

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

from concertina import data
from concertina.bases import join

ROOT = Path(__file__).parents[2]
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


def make(folder: Path) -> Path:
    """Fill a folder with a small Whisper, a small LLM, some speech, and the base that base_join makes of them."""
    small_whisper().save_pretrained(folder / "whisper")
    whisper_tokenizer(folder / "whisper")
    small_llm(folder / "llm")
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "joint.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    with chdir(folder):
        for split in ("train", "clean"):
            assert data.main(["--config", "joint.yaml", "--corpus", "synthetic", "--split", split]) == 0
        assert join.main(["--config", "joint.yaml"]) == 0
    return folder


def small_whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2}
    shape |= {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    tokens: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1}
    whisper = WhisperConfig(
        vocab_size=50, d_model=64, encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=500, **shape, **tokens
    )
    return WhisperForConditionalGeneration(whisper).eval()


def small_llm(folder: Path) -> None:
    """Write a Llama with a byte tokenizer in the hub's layout; it has grouped queries and a tied head."""
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
    """Write a tokenizer with Whisper's special tokens and a few letters."""
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    tokens = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *"abcdefghij"])}, []))
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(special)
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=special[0]).save_pretrained(folder)


def as_ctranslate2(model: WhisperForConditionalGeneration) -> bytes:
    """Return a Whisper as CTranslate2 writes it, in half precision."""
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
    variables = _normed(f"{theirs}/layer_norm", state, f"{ours}_layer_norm")
    for linear, names in joint.items():
        variables[f"{theirs}/{linear}/weight"] = torch.cat([state[f"{name}.weight"] for name in names])
        variables[f"{theirs}/{linear}/bias"] = torch.cat([state.get(f"{name}.bias", no_bias) for name in names])
    return variables
