"""How fast are we beside llama.cpp, ik_llama.cpp and bitnet.cpp, in the same minutes?

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 llama-cpp-python==0.3.36
    cargo build --release
    venv/bin/python benches/peer_speed.py write 2b 2b.gguf --form tq2_0
    venv/bin/python benches/peer_speed.py measure --ours 2b.gguf --peer ./speed-llama-cpp=2b.gguf --peer ./speed-ik=2b-ik.gguf --threads 2

A peer is a program made from `peer_speed.c` and its library. llama-cpp-python brings llama.cpp's, compiled for this machine; the others are
compiled from their sources by `cmake -DGGML_NATIVE=ON`, target `llama`. The student is one of random weights, in the sizes of BitNet 2B4T
(`2b`) or of 200 million weights (`200m`), with each peer's own form of ternary weights (`tq2_0`; `iq2_bn` for ik_llama.cpp, `i2_s` for
bitnet.cpp) and in every form the same head of 8 bits; or a packed file. The programs take turns, because a machine's speed changes from
minute to minute; each figure is the median of the turns, a turn's own figure being a median too. Ratios count, not figures: another
program that runs at the same time slows all.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

import gguf
import numpy

# Width, blocks, heads, key heads, feed-forward width, vocabulary.
SHAPES = {"2b": (2560, 30, 20, 5, 6912, 128256), "200m": (1024, 16, 16, 4, 2816, 32000)}
# What ggml's forks call their types.
FORKS = {"iq2_bn": 135, "i2_s": 36}
ANSWER = 32


def write(path, shape, form="tq2_0"):
    """A packed student of random codes: every row has one scale, as our students have, or every matrix, where the form has no others."""
    width, blocks, heads, kv_heads, inner, vocab = shape
    random = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "bitnet")
    writer.add_name("random")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width // heads)
    writer.add_value_length(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocab)
    writer.add_string("tristill.scale", "row")
    write_tokenizer(writer, vocab)

    four_codes = numpy.array([a | b << 2 | c << 4 | d << 6 for a in range(3) for b in range(3) for c in range(3) for d in range(3)], numpy.uint8)

    def matrix(name, rows, columns):
        codes = four_codes[random.integers(0, 81, (rows, columns // 4), numpy.uint8)]
        scale = numpy.array([(1.5 / columns) ** 0.5], numpy.float32).view(numpy.uint8)
        if form != "tq2_0":
            # A row's scale and its codes, or all codes and their scale in 32 bytes; written as bytes, then called what it is.
            if form == "iq2_bn":
                stored = numpy.hstack([numpy.tile(scale, (rows, 1)), codes])
            else:
                stored = numpy.concatenate([codes.reshape(-1), scale, numpy.zeros(28, numpy.uint8)])
            writer.add_tensor(name, stored.view(numpy.int8))
            info = writer.tensors[-1][name]
            info.shape, info.dtype = (rows, columns), FORKS[form]
            return
        packed = numpy.empty((rows, columns // 256, 66), numpy.uint8)
        packed[:, :, :64] = codes.reshape(rows, -1, 64)
        packed[:, :, 64:] = numpy.array([(1.5 / columns) ** 0.5], numpy.float16).view(numpy.uint8)
        writer.add_tensor(name, packed.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.TQ2_0)

    def ones(name, count):
        writer.add_tensor(name, numpy.ones(count, numpy.float32))

    table = random.integers(0, 256, (vocab, width // 32, 34), numpy.uint8)
    table[:, :, :2] = numpy.array([(3.0 / width) ** 0.5 / 128], numpy.float16).view(numpy.uint8)
    writer.add_tensor("token_embd.weight", table.reshape(vocab, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for block in range(blocks):
        name = f"blk.{block}."
        kv_width = width // heads * kv_heads
        for part, count in [("attn_norm", width), ("attn_sub_norm", width), ("ffn_norm", width), ("ffn_sub_norm", inner)]:
            ones(f"{name}{part}.weight", count)
        for part, rows, columns in [
            ("attn_q", width, width),
            ("attn_k", kv_width, width),
            ("attn_v", kv_width, width),
            ("attn_output", width, width),
            ("ffn_gate", inner, width),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ]:
            matrix(f"{name}{part}.weight", rows, columns)
    ones("output_norm.weight", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(writer, vocab):
    """Bytes, one merge, the end of a turn, and names for the rest."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in kept]
    tokens = [chr(byte) for byte in kept] + [chr(256 + at) for at in range(len(moved))]
    tokens += ["\u0120t", "<|im_end|>"]
    end = len(tokens) - 1
    tokens += [f"[unused{at}]" for at in range(vocab - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if at == end else 1 if at < end else 5 for at in range(vocab)])
    writer.add_token_merges(["\u0120 t"])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


def ours(program, path, threads, prompts, isa):
    environment = {**os.environ, **({"TRISTILL_ISA": isa} if isa else {})}
    speeds = {}
    for prompt in prompts:
        command = [program, "bench", path, "--json", "--threads", str(threads), "--prompt", str(prompt)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)
        speeds[prompt] = next(speed for speed in found if speed["threads"] == threads)
    first = speeds[prompts[0]]
    figures = {f"prefill {prompt}": speeds[prompt]["prefill_tokens_per_s"] for prompt in prompts}
    bandwidth = first["decode_tokens_per_s"] * first["bytes_per_token"] / first["bandwidth_share"] / 1e9
    return figures | {
        "decode": first["decode_tokens_per_s"],
        "16 answers": first["batch_tokens_per_s"],
        "GB/s read": bandwidth,
        "share of it": first["bandwidth_share"],
    }


def theirs(program, path, threads, prompts):
    command = [program, path, str(threads), str(ANSWER), *map(str, prompts)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    figures = {f"prefill {prompt}": found[str(prompt)][0] for prompt in prompts}
    return figures | {"decode": found[str(prompts[0])][1]}


def measure(arguments):
    prompts = arguments.prompts
    isas = arguments.isa or [""]
    turns = []
    for _ in range(arguments.turns):
        turn = {f"tristill {isa}".strip(): ours(arguments.program, arguments.ours, arguments.threads, prompts, isa) for isa in isas}
        for peer in arguments.peer:
            program, path = peer.split("=", 1)
            turn[pathlib.Path(program).name] = theirs(program, path, arguments.threads, prompts)
        turns.append(turn)
    print(f"{pathlib.Path(arguments.ours).name}, {arguments.threads} threads, {arguments.turns} turns: medians (lowest to highest)")
    for name in turns[0]:
        for figure in turns[0][name]:
            values = [turn[name][figure] for turn in turns]
            line = f"{name:20} {figure:12} {statistics.median(values):9.2f} ({min(values):.2f} to {max(values):.2f})"
            others = [[turn[peer][figure] for turn in turns] for peer in turns[0] if not peer.startswith("tristill") and figure in turn[peer]]
            if name.startswith("tristill") and others:
                best = [max(figures) for figures in zip(*others)]
                line += f"  {statistics.median(value / best for value, best in zip(values, best)):5.2f} x the best peer"
            print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("shape", choices=SHAPES)
    writing.add_argument("path")
    writing.add_argument("--form", choices=["tq2_0", *FORKS], default="tq2_0")
    measuring = commands.add_parser("measure")
    measuring.add_argument("--ours", required=True, help="a packed file")
    measuring.add_argument("--peer", action="append", default=[], help="PROGRAM=FILE")
    measuring.add_argument("--isa", action="append", help="one of our instruction sets; the best if none")
    measuring.add_argument("--threads", type=int, default=2)
    measuring.add_argument("--prompts", type=int, nargs="+", default=[128, 512])
    measuring.add_argument("--turns", type=int, default=3)
    measuring.add_argument("--program", default=str(pathlib.Path(__file__).parents[1] / "target/release/tristill"))
    arguments = parser.parse_args()
    if arguments.command == "write":
        write(arguments.path, SHAPES[arguments.shape], arguments.form)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
