"""Does stock llama.cpp load our packed student, and does it compute what we compute?

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 llama-cpp-python==0.3.36
    venv/bin/python benches/llama_cpp_agreement.py checkpoints/quickstart/student.gguf TEXT

TEXT is a UTF-8 file that the student might have written, at least 1,001 tokens of it. llama-cpp-python compiles llama.cpp for this machine,
which takes minutes. Prints a table and exits with 1 if a bound does not hold. Three questions, in this order:

1. Tokens. llama.cpp cuts and merges text as we do.
2. Exact. llama.cpp with its cache in f32 against a plain NumPy student that rounds activations as llama.cpp does (`Q8_K` for ternary
   matrices, `Q8_0` for the head). First step by step: each step computed from llama.cpp's own input gives llama.cpp's output. Then
   end to end, where an activation within rounding error of a half can become either of two codes: these are counted and taken
   from llama.cpp, and the logits must be equal to 1e-5.
3. Normal operation. llama.cpp as it comes (cache in f16, flash attention) against our runtime. The two round activations by
   another rule, so the logits are not equal; the bounds say how close they must be.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy
from llama_cpp._ggml import libggml

PROBE = (
    "Mia has 12 apples and 3456789 pears.\n\n\nShe's  got   £1,234.50 (≈ 5 %)!\r\n\ttab  \n  two\n"
    "Zoë's naïve café — “quoted” 東京 привет שלום नमस्ते 😀👩‍👩‍👧 e\u0301 ½ ² Ⅻ ٣\u00a0x\u3000y\u200bz"
    "<|im_start|>user\nWhat is 7*8?<|im_end|>\n<|im_start|>assistant\n<think>\n7*8=56\n</think>\n\n56<|im_end|><|endoftext|> I'LL we'Ve\n \n"
)
EXACT_POSITIONS = 128
NORMAL_POSITIONS = 2048
LARGEST_WINDOW = 512


# The plain student. Shapes: t positions, n inputs, m outputs, b blocks of a row, h heads, w width of a head.


class Matrix:
    """A stored matrix as what is stored: codes [m, n] with a scale per block [m, b]."""

    def __init__(self, tensor):
        self.format = tensor.tensor_type.name
        rows = int(tensor.shape[1])
        _, block_bytes = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        blocks = tensor.data.reshape(rows, -1, block_bytes).copy()
        scale_at = slice(0, 2) if self.format == "Q8_0" else slice(block_bytes - 2, block_bytes)
        self.scales = blocks[:, :, scale_at].copy().view(numpy.float16)[:, :, 0].astype(numpy.float32)
        blocks[:, :, scale_at] = numpy.frombuffer(numpy.float16(1).tobytes(), numpy.uint8)
        self.codes = gguf.quants.dequantize(blocks.reshape(rows, -1), tensor.tensor_type)

    def rows(self, index):
        """The rows in full precision, [t, n]."""
        return self.codes[index] * numpy.repeat(self.scales[index], self.codes.shape[1] // self.scales.shape[1], axis=1)


class Student:
    """A packed `bitnet` student, read without any of the code that is under test."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        fact = lambda key: reader.get_field(key).contents()
        if fact("general.architecture") != "bitnet":
            sys.exit(f"{path}: its architecture is {fact('general.architecture')}; this check knows bitnet only")
        self.layers, self.heads = fact("bitnet.block_count"), fact("bitnet.attention.head_count")
        self.kv_heads, self.head_width = fact("bitnet.attention.head_count_kv"), fact("bitnet.attention.key_length")
        self.context = fact("bitnet.context_length")
        self.epsilon = numpy.float32(fact("bitnet.attention.layer_norm_rms_epsilon"))
        self.rope_base = numpy.float32(fact("bitnet.rope.freq_base"))
        tensors = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
        self.vectors = {name: tensor.data.copy() for name, tensor in tensors.items() if len(tensor.shape) == 1}
        self.matrices = {name: Matrix(tensor) for name, tensor in tensors.items() if len(tensor.shape) == 2}
        formats = {matrix.format for matrix in self.matrices.values()}
        if not formats <= {"TQ1_0", "TQ2_0", "Q8_0"}:
            sys.exit(f"{path}: it has matrices of {formats}; this check knows ternary students with a Q8_0 head")


def in_blocks(x, size):
    """Blocks [t, b, size] and the largest |x| of each [t, b, 1]."""
    blocks = x.reshape(len(x), -1, size)
    return blocks, numpy.abs(blocks).max(axis=2, keepdims=True)


def divide(a, b):
    return numpy.divide(a, b, out=numpy.zeros_like(b), where=b != 0)


def round_as_llama_cpp(x, matrix):
    """Codes [t, b, n / b] and their scales [t, b], as ggml makes them of the input of a matrix of this format, in f32 throughout.

    Q8_K, for ternary matrices: blocks of 256; ggml gives the largest |x| the code -127 and lets the scale have either sign, which
    is the same numbers. Q8_0, for the head: blocks of 32, the scale stored in f16 after the codes were taken with the unrounded
    one; half to even, as ggml's x86 code has it (its plain code rounds halves away from zero).
    """
    if matrix.format == "Q8_0":
        blocks, largest = in_blocks(x, 32)
        scales = (largest / numpy.float32(127)).astype(numpy.float16).astype(numpy.float32)
        inverse = divide(numpy.float32(127), largest)
    else:
        blocks, largest = in_blocks(x, 256)
        inverse = divide(numpy.float32(127), largest)
        scales = divide(numpy.float32(1), inverse)
    return numpy.rint(blocks * inverse), scales[:, :, 0]


def round_per_token(x, matrix):
    """Ours: one scale for a token, max |x| / 127. The head takes the activations as they are."""
    blocks, _ = in_blocks(x, x.shape[1] // matrix.scales.shape[1])
    scale = numpy.maximum(numpy.abs(x).max(axis=1) / numpy.float32(127), numpy.float32(1e-5 / 127))
    if matrix.format == "Q8_0":
        return blocks, numpy.ones(blocks.shape[:2], numpy.float32)
    return numpy.rint(blocks / scale[:, None, None]), numpy.repeat(scale[:, None], blocks.shape[1], axis=1)


def multiply(matrix, x, rounding):
    """x [t, n] times the matrix, [t, m]. Sums of codes are whole numbers below 2^24, so f32 holds them exactly."""
    codes, scales = rounding(x, matrix)
    weights = matrix.codes.reshape(len(matrix.codes), *codes.shape[1:])
    total = numpy.zeros((len(x), len(weights)))
    for block in range(codes.shape[1]):
        total += (codes[:, block] @ weights[:, block].T) * (scales[:, block, None] * matrix.scales[None, :, block])
    return total.astype(numpy.float32)


def norm(x, weight, epsilon):
    """RMSNorm, arXiv:1910.07467, eq. 4, the squares summed in f64."""
    mean = ((x * x).astype(numpy.float64).sum(axis=1, keepdims=True) / x.shape[1]).astype(numpy.float32)
    return x * (numpy.float32(1) / numpy.sqrt(mean + epsilon)) * weight


def rotate(x_thw, base):
    """Rotary embedding of halves (i, i + w / 2), arXiv:2104.09864, eq. 34. The angle is multiplied up in f32, as ggml does: at a
    position of a thousand another order of multiplication moves it by 1e-4."""
    t, _, w = x_thw.shape
    angle = numpy.empty((t, w // 2), numpy.float32)
    angle[:, 0] = numpy.arange(t)
    for pair in range(1, w // 2):
        angle[:, pair] = angle[:, pair - 1] * numpy.float32(base ** numpy.float32(-2 / w))
    cos, sin = numpy.cos(angle)[:, None], numpy.sin(angle)[:, None]
    low, high = x_thw[:, :, : w // 2], x_thw[:, :, w // 2 :]
    return numpy.concatenate([low * cos - high * sin, low * sin + high * cos], axis=2)


def attend(q_thw, k_tgw, v_tgw):
    """Causal grouped-query attention, [t, h * w]."""
    t, heads, w = q_thw.shape
    group = heads // k_tgw.shape[1]
    future = numpy.triu(numpy.ones((t, t), bool), 1)
    mixed = numpy.empty_like(q_thw)
    for head in range(heads):
        scores = q_thw[:, head] @ k_tgw[:, head // group].T * numpy.float32(1 / numpy.sqrt(w))
        scores[future] = -numpy.inf
        shares = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        mixed[:, head] = shares @ v_tgw[:, head // group] / shares.sum(axis=1, keepdims=True)
    return mixed.reshape(t, -1)


def forward(student, tokens, rounding, look=lambda name, value: value):
    """Logits [t, v]. `look` sees every step under llama.cpp's name for it and returns what to go on with."""
    t = len(tokens)
    heads = lambda x: x.reshape(t, -1, student.head_width)
    stream = student.matrices["token_embd"].rows(tokens)
    for layer in range(student.layers):
        linear = lambda x, name: multiply(student.matrices[f"blk.{layer}.{name}"], x, rounding)
        normed = lambda x, name: look(f"{name}-{layer}", norm(x, student.vectors[f"blk.{layer}.{name}"], student.epsilon))
        see = lambda name, value: look(f"{name}-{layer}", value)

        x = normed(stream, "attn_norm")
        q, k, v = see("Qcur", linear(x, "attn_q")), see("Kcur", linear(x, "attn_k")), see("Vcur", linear(x, "attn_v"))
        q = see("Qcur rotated", rotate(heads(q), student.rope_base).reshape(t, -1))
        k = see("Kcur rotated", rotate(heads(k), student.rope_base).reshape(t, -1))
        x = see("kqv_out", attend(heads(q), heads(k), heads(v)))
        x = see("attn_out", linear(normed(x, "attn_sub_norm"), "attn_output"))
        stream = see("ffn_inp", stream + x)

        x = normed(stream, "ffn_norm")
        gate, up = see("ffn_gate", linear(x, "ffn_gate")), see("ffn_up", linear(x, "ffn_up"))
        x = see("ffn_sub_out", gate / (numpy.float32(1) + numpy.exp(-gate)) * up)
        x = see("ffn_down", linear(normed(x, "ffn_sub_norm"), "ffn_down"))
        stream = see("l_out", stream + x)
    x = look("result_norm", norm(stream, student.vectors["output_norm"], student.epsilon))
    return look("result_output", multiply(student.matrices["token_embd"], x, rounding))


# llama.cpp.

libggml.ggml_get_name.argtypes, libggml.ggml_get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
libggml.ggml_get_data_f32.argtypes, libggml.ggml_get_data_f32.restype = [ctypes.c_void_p], ctypes.POINTER(ctypes.c_float)
libggml.ggml_nelements.argtypes, libggml.ggml_nelements.restype = [ctypes.c_void_p], ctypes.c_int64

# A caller's function must outlive its use, and loading prints hundreds of lines.
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


class Peer:
    """llama.cpp with a student loaded: as it comes, or with its cache in f32 and without flash attention."""

    def __init__(self, path, window, exact):
        llama_cpp.llama_log_set(QUIET, None)
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"{path}: llama.cpp does not load it")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.seen = {}
        self.names = set()
        self.watch = llama_cpp.ggml_backend_sched_eval_callback(self.keep)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = window
        params.n_threads = params.n_threads_batch = 1
        if exact:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.cb_eval = self.watch
        self.context = llama_cpp.llama_init_from_model(self.model, params)

    def keep(self, tensor, asked, _):
        """llama.cpp asks of each tensor whether to stop there, then shows it. A name can come twice: before and after rotation."""
        name = libggml.ggml_get_name(tensor).decode()
        if not asked and name in self.names:
            values = numpy.ctypeslib.as_array(libggml.ggml_get_data_f32(tensor), (libggml.ggml_nelements(tensor),)).copy()
            self.seen.setdefault(name, []).append(values)
        return name in self.names

    def tokens(self, text):
        data = text.encode()
        found = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), found, len(found), False, True)
        return numpy.array(found[:count], numpy.uint32)

    def logits(self, tokens):
        """Logits [t, v] of one window."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for position, token in enumerate(tokens):
            batch.token[position], batch.pos[position], batch.logits[position] = int(token), position, 1
            batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        if status != 0:
            sys.exit(f"llama.cpp returned {status} for {len(tokens)} tokens")
        width = llama_cpp.llama_vocab_n_tokens(self.vocab)
        return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), (len(tokens), width)).copy()

    def steps(self, tokens, names):
        """Logits, and every step that a plain student of the same tokens would show."""
        self.seen, self.names = {}, {name.replace(" rotated", "") for name in names}
        logits = self.logits(tokens)
        self.names = set()
        shown = lambda name: self.seen[name.replace(" rotated", "")][-1 if " rotated" in name else 0]
        return logits, {name: shown(name).reshape(len(tokens), -1) for name in names}


# The checks.


class Table:
    """Rows of what was measured and what it must be."""

    def __init__(self):
        self.failed = False

    def row(self, what, figure, bound=None, holds=True):
        self.failed |= not holds
        print(f"{what:<64} {figure:>22}  {bound or '':<10} {'' if bound is None else 'holds' if holds else 'FAILS'}", flush=True)

    def at_most(self, what, figure, limit, form="{:.1e}"):
        self.row(what, form.format(figure), f"<= {limit:g}", figure <= limit)

    def at_least(self, what, figure, limit, form="{:.4f}"):
        self.row(what, form.format(figure), f">= {limit:g}", figure >= limit)


def distance(found, expected):
    """Relative L2 distance."""
    return float(numpy.linalg.norm(found.astype(numpy.float64) - expected) / numpy.linalg.norm(expected.astype(numpy.float64)))


def check_exact(table, student, peer, tokens):
    names = []
    free = forward(student, tokens, round_as_llama_cpp, lambda name, value: (names.append(name), value)[1])
    theirs, steps = peer.steps(tokens, names)

    distances = {}

    def compare(name, value):
        distances[name] = distance(value, steps[name])
        return steps[name]

    forward(student, tokens, round_as_llama_cpp, compare)
    worst = max(distances, key=distances.get)
    table.at_most(f"each of {len(names)} steps from llama.cpp's input, rel. L2, worst {worst}", distances[worst], 1e-6)

    settled = Settled(student, steps)
    logits = forward(student, tokens, settled.round, settled.look)
    table.at_most("activations end to end before rounding, largest difference in steps", settled.apart, 1e-2)
    table.row("  rounded to another code, and taken from llama.cpp", f"{settled.undecided} of {settled.rounded}")
    table.at_most("logits end to end, rel. L2", distance(logits, theirs), 1e-5)
    table.row("  the same if nothing is taken from llama.cpp", f"{distance(free, theirs):.1e}")
    close = sum(distance(free[position], theirs[position]) <= 1e-5 for position in range(len(tokens)))
    table.row("  positions that are then within 1e-5", f"{close} of {len(tokens)}")


class Settled:
    """Rounds our own activations, but where that gives another code than llama.cpp's activations did, takes llama.cpp's code."""

    def __init__(self, student, steps):
        self.student, self.steps = student, steps
        self.rounded, self.undecided, self.apart = 0, 0, 0.0

    def look(self, name, value):
        """Every matrix takes its input from a norm."""
        if "norm" in name:
            matrix = self.student.matrices["token_embd" if name == "result_norm" else "blk.0.attn_q"]
            (codes, scales), (their_codes, their_scales) = (round_as_llama_cpp(x, matrix) for x in (value, self.steps[name]))
            blocks = [x.reshape(codes.shape) for x in (value, self.steps[name])]
            self.apart = max(self.apart, float(numpy.abs(divide(blocks[0] - blocks[1], their_scales[:, :, None] + 0 * blocks[1])).max()))
            # A scale in f16 can go either way too, and is then another code for its whole block.
            unequal = (codes != their_codes) | ((scales != their_scales)[:, :, None] & (matrix.format == "Q8_0"))
            self.rounded, self.undecided = self.rounded + codes.size, self.undecided + int(unequal.sum())
            self.now = numpy.where(unequal, their_codes, codes), numpy.where(unequal.any(axis=2), their_scales, scales)
        return value

    def round(self, x, matrix):
        return self.now


def perplexity(logits, targets):
    logits = logits.astype(numpy.float64)
    top = logits.max(axis=1)
    of_target = logits[numpy.arange(len(targets)), targets]
    return float(numpy.exp(numpy.mean(numpy.log(numpy.exp(logits - top[:, None]).sum(axis=1)) + top - of_target)))


def check_normal(table, name, ours, theirs, targets):
    cosine = (ours.astype(numpy.float64) * theirs).sum(axis=1) / numpy.linalg.norm(ours, axis=1) / numpy.linalg.norm(theirs, axis=1)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    table.at_least(f"{name}: share of {len(same)} positions with the same likeliest token", same.mean(), 0.98)
    table.at_least(f"{name}: cosine of logits, mean", cosine.mean(), 0.999, "{:.6f}")
    table.row(f"{name}: cosine of logits, least", f"{cosine.min():.6f}")
    ratio = perplexity(ours, targets) / perplexity(theirs, targets)
    table.row(f"{name}: perplexity, ours and llama.cpp's", f"{perplexity(ours, targets):.4f} {perplexity(theirs, targets):.4f}")
    table.at_most(f"{name}: perplexity, relative difference", abs(ratio - 1), 0.01)


def ours(student_path, text, positions, window):
    """Our tokens of a text, and our runtime's logits of the first positions, in windows."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "text").write_text(text, newline="")
        command = "cargo run --release --quiet --package tristill-runtime --example logits --".split()
        root = pathlib.Path(__file__).resolve().parent.parent
        arguments = [student_path.resolve(), folder / "text", str(positions), str(window), folder / "tokens", folder / "logits"]
        subprocess.run(command + arguments, cwd=root, check=True)
        return numpy.fromfile(folder / "tokens", numpy.uint32), numpy.fromfile(folder / "logits", numpy.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    arguments = parser.parse_args()

    student, table = Student(arguments.student), Table()
    window = min(student.context, LARGEST_WINDOW)
    text = arguments.text.read_text(encoding="utf-8")
    exact, normal = Peer(arguments.student, window, exact=True), Peer(arguments.student, window, exact=False)

    tokens, _ = ours(arguments.student, PROBE, 0, window)
    table.row("tokens of the probe", f"{len(tokens)}", "equal", numpy.array_equal(tokens, normal.tokens(PROBE)))
    tokens, _ = ours(arguments.student, text, 0, window)
    table.row(f"tokens of {arguments.text.name}", f"{len(tokens)}", "equal", numpy.array_equal(tokens, normal.tokens(text)))
    count = min(len(tokens) - 1, NORMAL_POSITIONS)
    if count < 1000:
        sys.exit(f"{arguments.text}: it has {len(tokens)} tokens; at least 1,001 are needed")

    check_exact(table, student, exact, tokens[: min(EXACT_POSITIONS, window)])

    starts = range(0, count, window)
    joined = lambda logits_of: numpy.concatenate([logits_of(tokens[start : min(start + window, count)]) for start in starts])
    theirs, plain = joined(normal.logits), joined(lambda part: forward(student, part, round_per_token))
    _, packed = ours(arguments.student, text, count, window)
    packed = packed.reshape(plain.shape)
    table.at_most("runtime against the plain student with our rounding, rel. L2", distance(packed, plain), 2e-2)
    check_normal(table, "runtime", packed, theirs, tokens[1 : count + 1])
    sys.exit(table.failed)


if __name__ == "__main__":
    main()
