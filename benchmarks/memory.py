"""What it saves a large training step that freed memory stays with the process.

    PYTHONPATH=src python benchmarks/memory.py

Runs the same LoRA steps on random input (a Llama of SmolLM2-135M's width, 8 layers; batches of 16, 150 to 420
positions) in two fresh processes, one thread each: as glibc comes, and as every stage sets it. Prints one JSON: CPU
seconds and largest memory of each, and the share of CPU time saved.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import peft
import torch
from transformers import LlamaConfig, LlamaModel

from concertina.model import devices

STEPS = 8


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(steps(keep=sys.argv[1] == "kept")))
        return 0
    found = {how: json.loads(subprocess.check_output([sys.executable, __file__, how])) for how in ("given", "kept")}
    saved = 100 * (1 - found["kept"]["cpu_seconds"] / found["given"]["cpu_seconds"])
    print(json.dumps({**found, "cpu_time_saved_percent": saved}, indent=1))
    return 0


def steps(keep: bool) -> dict[str, float]:
    """The steps in this process."""
    if keep:
        devices.keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
    shape |= {"vocab_size": 256, "num_hidden_layers": 8, "attn_implementation": "eager"}
    llm = LlamaModel(LlamaConfig(**shape))
    adapted = peft.get_peft_model(llm, peft.LoraConfig(r=16, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)
    lengths = np.random.default_rng(0).integers(150, 420, STEPS)
    began = time.process_time()
    for length in lengths.tolist():
        with torch.autocast("cpu", torch.bfloat16, enabled=devices.computes_bfloat16()):
            out = adapted(inputs_embeds=torch.randn(16, length, 576), use_cache=False).last_hidden_state
        optimizer.zero_grad()
        out.float().square().mean().backward()
        optimizer.step()
    seconds = time.process_time() - began
    return {"cpu_seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    raise SystemExit(main())
