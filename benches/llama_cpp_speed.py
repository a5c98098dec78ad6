"""How fast are we beside stock llama.cpp, on the same file, in the same minutes?

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 llama-cpp-python==0.3.36
    cargo build --release
    venv/bin/python benches/llama_cpp_speed.py 2b --threads 2

llama-cpp-python compiles llama.cpp for this machine, which takes minutes. The student is one of random weights, in the sizes of BitNet 2B4T
(`2b`) or of 200 million weights (`200m`), or a packed file. The two programs take turns, because a machine's speed changes from
minute to minute; each figure is the median of the turns, a turn's own figure being a median too. Ratios count, not figures: another
program that runs at the same time slows both.
"""

import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gguf
import numpy

# Width, blocks, heads, key heads, feed-forward width, vocabulary.
SHAPES = {"2b": (2560, 30, 20, 5, 6912, 128256), "200m": (1024, 16, 16, 4, 2816, 32000)}
ANSWER = 64
REPEATS = 3


def write(path, shape):
    """A packed student of random codes: every row has one scale, as our students have."""
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
        packed = numpy.empty((rows, columns // 256, 66), numpy.uint8)
        packed[:, :, :64] = four_codes[random.integers(0, 81, (rows, columns // 256, 64), numpy.uint8)]
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


def ours(program, path, threads, prompt):
    command = [program, "bench", path, "--json", "--threads", str(threads), "--prompt", str(prompt)]
    speeds = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    speed = next(speed for speed in speeds if speed["threads"] == threads)
    return speed["prefill_tokens_per_s"], speed["decode_tokens_per_s"]


def theirs(path, threads, prompt):
    """In a process of its own, so that neither side's memory stays while the other runs."""
    command = [sys.executable, __file__, "--llama-cpp", path, str(threads), str(prompt)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def run_llama_cpp(path, threads, prompt):
    import llama_cpp

    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    assert model, "llama.cpp cannot load the file"
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = prompt + ANSWER
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, parameters)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(tokens):
        tokens = (ctypes.c_int32 * len(tokens))(*tokens)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(tokens))) == 0
        llama_cpp.llama_get_logits_ith(context, -1)

    prefill, answer = [], []
    for _ in range(REPEATS + 1):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        started = time.perf_counter()
        decode([at * 7 % vocab for at in range(prompt)])
        prefill.append(prompt / (time.perf_counter() - started))
        started = time.perf_counter()
        for at in range(ANSWER):
            decode([at * 11 % vocab])
        answer.append(ANSWER / (time.perf_counter() - started))
    print(json.dumps([statistics.median(prefill[1:]), statistics.median(answer[1:])]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", help="2b, 200m or a packed file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--program", default=str(pathlib.Path(__file__).parents[1] / "target/release/tristill"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.student
        if path in SHAPES:
            path = f"{folder}/student.gguf"
            write(path, SHAPES[arguments.student])
        turns = []
        for _ in range(arguments.turns):
            one = ours(arguments.program, path, arguments.threads, arguments.prompt)
            turns.append((*one, *theirs(path, arguments.threads, arguments.prompt)))
    print(f"{arguments.student}, {arguments.threads} threads, a prompt of {arguments.prompt} tokens, {arguments.turns} turns")
    print("          tristill  llama.cpp  ratio (lowest to highest)")
    for name, at in [("prefill", 0), ("decode", 1)]:
        ratios = [turn[at] / turn[at + 2] for turn in turns]
        medians = [statistics.median(turn[place] for turn in turns) for place in (at, at + 2)]
        print(f"{name:8} {medians[0]:9.1f} {medians[1]:10.1f}  {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--llama-cpp"]:
        run_llama_cpp(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
