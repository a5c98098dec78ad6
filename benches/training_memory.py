"""How much memory does a real-sized model take to train, and does what was trained run?

    python3 -m venv venv && venv/bin/pip install numpy torch transformers    # any build for the CPU
    cargo build --release
    venv/bin/python benches/training_memory.py bitnet-2b --folder bench-2b          # an adapter on BitNet b1.58 2B4T's shape
    venv/bin/python benches/training_memory.py qwen2-0.5b --folder bench-qwen       # all weights of Qwen2.5-0.5B's

A folder of the published shape with random BF16 weights is made and trained for a few steps from there, then packed and asked for
some tokens; what counts is the largest resident memory of each program, as the system counts it. Fewer --layers are faster: runs with
2 and 4 say what all take, because every block is like the next. The largest needs about 15 GB of disk. The tokenizer has only some
hundred tokens; the embedding has as many rows as the published one.
"""

import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import numpy

import transformers_agreement as agreement

COMMON = dict(tie_word_embeddings=True, torch_dtype="bfloat16", use_cache=True)
SHAPES = {
    # https://huggingface.co/microsoft/bitnet-b1.58-2B-4T-bf16
    "bitnet-2b": dict(
        COMMON, architectures=["BitNetForCausalLM"], model_type="bitnet", hidden_act="relu2", hidden_size=2560, intermediate_size=6912,
        num_hidden_layers=30, num_attention_heads=20, num_key_value_heads=5, max_position_embeddings=4096, rms_norm_eps=1e-5,
        rope_theta=500000.0, vocab_size=128256,
        quantization_config=dict(quant_method="bitnet", linear_class="autobitlinear", quantization_mode="online"),
    ),
    # https://huggingface.co/Qwen/Qwen2.5-0.5B
    "qwen2-0.5b": dict(
        COMMON, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", hidden_size=896, intermediate_size=4864,
        num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, rms_norm_eps=1e-6,
        rope_theta=1000000.0, vocab_size=151936,
    ),
}

RUN = """
[synth]
seed = 1
problems = 400
held_out = 4
unseen = 4
steps = [1, 2]
max_operand = 20
operations = ["add", "subtract", "multiply"]
[data]
sources = []
rules = {{ decontaminate = "exact" }}
[model]
from = {folder}
context = {context}
{model}
[train]
steps = {steps}
rows = {rows}
microbatch_rows = {microbatch}
rate = 1e-4
warm_up_steps = 0
log_every = 1
keep_last = 1
save_every = 1000
{train}
"""


def tensors(shape):
    """Names and shapes, in the order of the forward pass."""
    d, f, heads = shape["hidden_size"], shape["intermediate_size"], shape["num_attention_heads"]
    kv = d // heads * shape["num_key_value_heads"]
    projections = [("self_attn.q", d, d), ("self_attn.k", kv, d), ("self_attn.v", kv, d), ("self_attn.o", d, d),
                   ("mlp.gate", f, d), ("mlp.up", f, d), ("mlp.down", d, f)]
    block = [(f"{name}_proj.weight", [o, i]) for name, o, i in projections]
    block += [("input_layernorm.weight", [d]), ("post_attention_layernorm.weight", [d])]
    if shape["model_type"] == "bitnet":
        block += [("self_attn.attn_sub_norm.weight", [d]), ("mlp.ffn_sub_norm.weight", [f])]
    else:
        block += [(f"{name}_proj.bias", [o]) for name, o, _ in projections[:3]]
    layers = range(shape["num_hidden_layers"])
    inner = [(f"model.layers.{layer}.{name}", size) for layer in layers for name, size in block]
    return [("model.embed_tokens.weight", [shape["vocab_size"], d])] + inner + [("model.norm.weight", [d])]


def make(folder, shape):
    """A folder of random BF16 weights, written one tensor at a time."""
    folder.mkdir(parents=True)
    agreement.tokenizer("llama3" if shape["model_type"] == "bitnet" else "qwen2").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(shape))
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, size in tensors(shape):
        start, end = end, end + 2 * int(numpy.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = numpy.random.default_rng(1)
    pool = (draw.standard_normal(1 << 24, dtype=numpy.float32) * 0.02).view(numpy.uint32)
    pool = (pool >> 16).astype(numpy.uint16)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, size in tensors(shape):
            left = int(numpy.prod(size))
            if len(size) == 1:
                bits = 0 if name.endswith("bias") else 0x3F80
                out.write(numpy.full(left, bits, numpy.uint16).tobytes())
                continue
            while left:
                start = int(draw.integers(len(pool) // 2))
                part = pool[start : start + left]
                out.write(part.tobytes())
                left -= len(part)
    return sum(int(numpy.prod(size)) for _, size in tensors(shape))


def measured(name, command, folder):
    """Run a program to its end and say what it took."""
    print(f"{name}: {' '.join(map(str, command))}", flush=True)
    started = time.monotonic()
    program = subprocess.Popen(command, cwd=folder)
    _, status, usage = os.wait4(program.pid, 0)
    if status != 0:
        sys.exit(f"{name} failed")
    print(f"{name}: {usage.ru_maxrss / 2**20:.2f} GiB at most, {time.monotonic() - started:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where everything is written")
    parser.add_argument("--tristill", type=pathlib.Path, default="target/release/tristill")
    parser.add_argument("--layers", type=int, help="fewer blocks than published")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2, help="rows per step")
    parser.add_argument("--microbatch", type=int, default=1, help="rows at once; as many passes go side by side as there are threads")
    parser.add_argument("--context", type=int, default=128, help="tokens of a row")
    arguments = parser.parse_args()
    shape = dict(SHAPES[arguments.shape])
    shape["num_hidden_layers"] = arguments.layers or shape["num_hidden_layers"]
    tristill, folder = arguments.tristill.resolve(), arguments.folder.resolve()
    start = folder / f"start-{shape['num_hidden_layers']}"
    if not start.exists():
        make(start, shape)
    count = sum(int(numpy.prod(size)) for _, size in tensors(shape))
    print(f"{arguments.shape}: {count / 1e6:.0f} million weights, {shape['num_hidden_layers']} blocks", flush=True)
    is_adapted = arguments.shape == "bitnet-2b"
    config = RUN.format(
        folder=json.dumps(str(start)), context=arguments.context, steps=arguments.steps, rows=arguments.rows, microbatch=arguments.microbatch,
        model="" if is_adapted else 'quant = "ternary"',
        train="[train.adapter]\nrank = 16\nalpha = 32" if is_adapted else "gradient_checkpointing = true",
    )
    name = f"run-{shape['num_hidden_layers']}-{time.strftime('%H%M%S')}"
    (folder / f"{name}.toml").write_text(config)
    run = folder / "checkpoints" / name
    measured("synth", [tristill, "synth", f"{name}.toml"], folder)
    measured("ingest", [tristill, "ingest", f"{name}.toml"], folder)
    measured("train", [tristill, "train", f"{name}.toml"], folder)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        found = json.loads(line)
        print(f"step {found['step']}: loss {found['loss']:.4f}, {found['tokens_per_s']:.1f} tokens/s, "
              f"{numpy.mean(found['layers.flips']):.2e} of the codes changed")
    measured("export", [tristill, "export", run, "--to", run / "student.gguf"], folder)
    measured("generate", [tristill, "generate", run / "student.gguf", "--prompt", "2 + 3 = ?", "--max-tokens", "16"], folder)


if __name__ == "__main__":
    main()
