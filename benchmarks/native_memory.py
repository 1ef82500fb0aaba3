"""What a rank of the native engine holds, measured beside the plan's formula: `python benchmarks/native_memory.py`.

Not a benchmark of speed, and no server: each setting runs in processes of its own (one for each rank), which read their
own peak from /proc/self/status: after the imports, after the load, and after one batch (the peak is reset between them;
proc(5), clear_refs). The models are tiny-t5, random checkpoints of T5-small's and T5-base's sizes, and a small Llama,
written to a temporary folder. The last line is one JSON object; the last one kept is results/native_memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parent.parent
LETTERS = 26
SIZES: dict[str, dict[str, Any]] = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
}
"""T5 v1.1's, with 32,128 words, gated, untied."""
LLAMA: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "vocab_size": 32000}
LLAMA |= {"num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 4096}
"""A Llama of 137 million parameters."""
KEPT = ("model_type", "architectures", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
KEPT += ("vocab_size", "feed_forward_proj", "tie_word_embeddings", *LLAMA)
SETTINGS = [
    # model, dtype, ranks, rows, prompt tokens, new tokens
    ("tiny-t5", "fp32", 1, 1, 16, 16),
    ("tiny-t5", "fp32", 2, 4, 64, 32),
    ("tiny-t5", "fp32", 2, 16, 256, 64),
    ("t5-small", "fp32", 1, 1, 64, 32),
    ("t5-small", "fp32", 1, 16, 512, 64),
    ("t5-small", "bf16", 2, 16, 512, 64),
    ("t5-base", "fp32", 1, 1, 64, 16),
    ("t5-base", "fp32", 1, 8, 512, 64),
    ("t5-base", "fp32", 1, 4, 1024, 16),
    ("t5-base", "fp32", 2, 8, 512, 64),
    ("t5-base", "bf16", 1, 8, 512, 64),
    ("t5-base", "fp32", 4, 2, 128, 200),
    ("llama", "fp32", 1, 1, 64, 16),
    ("llama", "fp32", 1, 8, 512, 64),
    ("llama", "bf16", 1, 16, 1024, 200),  # all rows are read before the first one ends
    ("llama", "fp32", 2, 8, 512, 64),
]


def write(name: str, folder: Path) -> Path:
    """A random checkpoint with a tokenizer of one token for each letter."""
    torch.manual_seed(0)
    if name == "llama":
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, eos_token_id=1)).save_pretrained(folder)
    else:
        sizes = {**SIZES[name], "num_decoder_layers": SIZES[name]["num_layers"]}
        config = transformers.T5Config(vocab_size=32128, **sizes, feed_forward_proj="gated-gelu")
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    letters = {chr(ord("a") + place): place + 3 for place in range(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, **letters}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def status(field: str) -> int:
    """Bytes of VmHWM (the peak) or VmRSS of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))


def rank(folder: Path, number: int, world: int, dtype: str, rows: int, tokens: int, new: int, meeting: str) -> None:
    """One rank: its three peaks as a line of JSON."""
    from heavylift_runtime.engines.engine import Request, Sampling
    from heavylift_runtime.engines.native import load
    from heavylift_runtime.options import Options

    torch.set_num_threads(1)
    found: dict[str, Any] = {"imported": status("VmHWM")}
    engine = load(Options(batch_size=rows, tensor_parallel_degree=world, dtype=dtype), folder, number, world, meeting)
    found |= {"load_peak": status("VmHWM"), "loaded": status("VmRSS")}
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if number == 0:
        text = "words: " + "7" * (tokens - 8) if folder.name == "tiny-t5" else "abc" * (tokens // 3)
        for key in range(rows):
            engine.add(key, Request(text, Sampling(new, ignore_eos=True)))
        pieces = [piece for _ in iter(lambda: engine.busy, False) for piece in engine.step()]
        found |= {"prompt_tokens": pieces[-1].prompt_tokens, "new_tokens": pieces[-1].generated_tokens}
        engine.close()
    else:
        engine.follow()
    print(json.dumps({**found, "batch_peak": status("VmHWM")}), flush=True)


def measure(folder: Path, dtype: str, world: int, rows: int, tokens: int, new: int) -> list[dict[str, Any]]:
    """Every rank's peaks."""
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, __file__, "--folder", str(folder), "--dtype", dtype, "--world", str(world)]
        command += [
            "--rows",
            str(rows),
            "--tokens",
            str(tokens),
            "--new",
            str(new),
            "--meeting",
            f"file://{meeting}/meeting",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen([*command, "--rank", str(number)], stdout=subprocess.PIPE, text=True, env=environment)
            for number in range(world)
        ]
        out = [process.communicate(timeout=600)[0] for process in ranks]
    assert all(process.returncode == 0 for process in ranks), "a rank failed"
    return [json.loads(text) for text in out]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in {"folder": Path, "dtype": str, "meeting": str}.items():
        parser.add_argument(f"--{name}", type=kind)
    for name in ("rank", "world", "rows", "tokens", "new"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--only", help="one of the models")
    given = parser.parse_args()
    if given.rank is not None:
        rank(given.folder, given.rank, given.world, given.dtype, given.rows, given.tokens, given.new, given.meeting)
        return
    results = []
    with tempfile.TemporaryDirectory() as home:
        folders = {name: write(name, Path(home) / name) for name in (*SIZES, "llama")} | {
            "tiny-t5": ROOT / "models" / "tiny-t5"
        }
        for name, dtype, world, rows, tokens, new in SETTINGS:
            if given.only not in (None, name):
                continue
            found = measure(folders[name], dtype, world, rows, tokens, new)
            shape = {"prompt_tokens": found[0]["prompt_tokens"], "new_tokens": found[0]["new_tokens"]}
            config = json.loads((folders[name] / "config.json").read_text())
            config = {key: config[key] for key in KEPT if key in config}
            results.append({"model": name, "dtype": dtype, "ranks": world, "rows": rows, **shape, "peaks": found})
            results[-1]["config"] = config
            print(json.dumps({k: v for k, v in results[-1].items() if k != "config"}), file=sys.stderr, flush=True)
    print(json.dumps({"machine": platform.platform(), "torch": torch.__version__, "settings": results}))


if __name__ == "__main__":
    main()
