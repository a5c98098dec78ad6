"""Does stock llama.cpp load our packed student, and does it compute what we compute?

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 llama-cpp-python==0.3.36
    venv/bin/python benches/llama_cpp_agreement.py checkpoints/quickstart/student.gguf [TEXT]

TEXT is what the student might have written, at least 1,001 tokens of it: UTF-8, or JSON lines in the `messages` layout; without it,
the traces beside the student. Installing llama-cpp-python compiles llama.cpp for this machine, which takes minutes. Prints a table
and exits with 1 if a bound does not hold. Three questions, in this order:

1. Tokens. llama.cpp cuts and merges text as we do.
2. Exact. llama.cpp with its cache in f32 against `plain_student.py` told to round activations as llama.cpp does. First step by
   step: from llama.cpp's own input, each step gives llama.cpp's output. Then end to end. There an activation within 1e-4 steps of
   a half can be rounded either way, and one other code moves the logits of its position and of all later ones by 1 to 3 %, which
   is as much as rounding activations moves them at all. So those codes are counted and taken from llama.cpp; what must hold is
   that before rounding nothing differs, that they are few, and that then the logits are equal to 1e-5.
3. Normal operation. llama.cpp as it comes (cache in f16, flash attention) against our runtime. The two round activations by
   different rules, so the logits are not equal; the bounds are for a trained student, whose likeliest token stands clear of the
   second. What no rounding at all would give stands beside.
"""

import argparse
import ctypes
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp
import numpy
from llama_cpp._ggml import libggml

from plain_student import LLAMA_CPP, OURS, UNROUNDED, Student, divide, forward, round_as_llama_cpp

PROBE = (
    "Mia has 12 apples and 3456789 pears.\n\n\nShe's  got   £1,234.50 (≈ 5 %)!\r\n\ttab  \n  two\n"
    "Zoë's naïve café — “quoted” 東京 привет שלום नमस्ते 😀👩‍👩‍👧 e\u0301 ½ ² Ⅻ ٣\u00a0x\u3000y\u200bz"
    "<|im_start|>user\nWhat is 7*8?<|im_end|>\n<|im_start|>assistant\n<think>\n7*8=56\n</think>\n\n56<|im_end|><|endoftext|> I'LL we'Ve\n \n"
)
EXACT_POSITIONS = 128
NORMAL_POSITIONS = 2048
LARGEST_WINDOW = 512


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
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.logits[at], batch.n_seq_id[at], batch.seq_id[at][0] = int(token), at, 1, 1, 0
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
        print(f"{what:<72} {figure:>16}  {bound or '':<10} {'' if bound is None else 'holds' if holds else 'FAILS'}", flush=True)

    def at_most(self, what, figure, limit, form="{:.1e}"):
        self.row(what, form.format(figure), f"<= {limit:g}", figure <= limit)

    def at_least(self, what, figure, limit, form="{:.4f}"):
        self.row(what, form.format(figure), f">= {limit:g}", figure >= limit)


def distance(found, expected):
    """Relative L2 distance."""
    return float(numpy.linalg.norm(found.astype(numpy.float64) - expected) / numpy.linalg.norm(expected.astype(numpy.float64)))


def check_exact(table, student, peer, tokens):
    names = []
    free = forward(student, tokens, LLAMA_CPP, lambda name, value: (names.append(name), value)[1])
    theirs, steps = peer.steps(tokens, names)

    distances = {}

    def compare(name, value):
        distances[name] = distance(value, steps[name])
        return steps[name]

    forward(student, tokens, LLAMA_CPP, compare)
    worst = max(distances, key=distances.get)
    table.at_most(f"each of {len(names)} steps from llama.cpp's input, rel. L2, worst {worst}", distances[worst], 1e-6)

    settled = Settled(student, steps)
    logits = forward(student, tokens, LLAMA_CPP._replace(round=settled.round), settled.look)
    table.at_most("end to end: activations before rounding, furthest apart, in steps", settled.apart, 1e-3)
    few = settled.undecided <= settled.rounded * 2e-4
    table.row("  rounded to another code, then taken from llama.cpp", f"{settled.undecided} of {settled.rounded}", "<= 0.02 %", few)
    table.at_most("end to end: logits, rel. L2", distance(logits, theirs), 1e-5)
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
            apart = numpy.abs(value - self.steps[name]).reshape(codes.shape).max(axis=2)
            self.apart = max(self.apart, float(divide(apart, their_scales).max()))
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


def check_normal(table, ours, plain, unrounded, theirs, targets):
    close = sum(distance(found, expected) <= 1e-5 for found, expected in zip(ours, plain))
    table.row("runtime within 1e-5 of the plain student with our rounding", f"{close} of {len(ours)}")
    same = lambda a, b: (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    cosine = lambda a, b: (a.astype(numpy.float64) * b).sum(axis=1) / numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1)
    table.at_least(f"{len(ours)} positions, runtime and llama.cpp: the same likeliest token", same(ours, theirs), 0.98)
    table.row("  runtime and no rounding", f"{same(ours, unrounded):.4f}")
    table.row("  llama.cpp and no rounding", f"{same(theirs, unrounded):.4f}")
    table.at_least("cosine of logits, mean, runtime and llama.cpp", cosine(ours, theirs).mean(), 0.999)
    table.row("  runtime and no rounding", f"{cosine(ours, unrounded).mean():.4f}")
    table.row("  llama.cpp and no rounding", f"{cosine(theirs, unrounded).mean():.4f}")
    of_ours, of_theirs = perplexity(ours, targets), perplexity(theirs, targets)
    table.at_most("perplexity, runtime and llama.cpp: relative difference", abs(of_ours / of_theirs - 1), 0.01)
    table.row("  runtime", f"{of_ours:.4f}")
    table.row("  llama.cpp", f"{of_theirs:.4f}")
    table.row("  no rounding", f"{perplexity(unrounded, targets):.4f}")


def ours(student_path, text, positions, window):
    """Our tokens of a text, and our runtime's logits of the first positions, in windows."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "text").write_text(text, encoding="utf-8", newline="")
        command = "cargo run --release --quiet --package tristill-runtime --example logits --".split()
        root = pathlib.Path(__file__).resolve().parent.parent
        arguments = [student_path.resolve(), folder / "text", str(positions), str(window), folder / "tokens", folder / "logits"]
        subprocess.run(command + arguments, cwd=root, check=True)
        return numpy.fromfile(folder / "tokens", numpy.uint32), numpy.fromfile(folder / "logits", numpy.float32)


def read(path):
    """A text, or the first thousand conversations of JSON lines, in the ChatML form."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix != ".jsonl":
            return file.read()
        turns = itertools.chain.from_iterable(json.loads(line)["messages"] for line in itertools.islice(file, 1000))
        return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path, nargs="?")
    arguments = parser.parse_args()
    text_path = arguments.text or arguments.student.parent / "traces" / "train.jsonl"

    student, table = Student(arguments.student), Table()
    window = min(student.context, LARGEST_WINDOW)
    text = read(text_path)
    exact, normal = Peer(arguments.student, window, exact=True), Peer(arguments.student, window, exact=False)

    tokens, _ = ours(arguments.student, PROBE, 0, window)
    table.row("tokens of the probe", f"{len(tokens)}", "equal", numpy.array_equal(tokens, normal.tokens(PROBE)))
    tokens, _ = ours(arguments.student, text, 0, window)
    table.row(f"tokens of {text_path.name}", f"{len(tokens)}", "equal", numpy.array_equal(tokens, normal.tokens(text)))
    count = min(len(tokens) - 1, NORMAL_POSITIONS)
    if count < 1000:
        sys.exit(f"{text_path}: it has {len(tokens)} tokens; at least 1,001 are needed")

    check_exact(table, student, exact, tokens[: min(EXACT_POSITIONS, window)])

    starts = range(0, count, window)
    joined = lambda logits_of: numpy.concatenate([logits_of(tokens[start : min(start + window, count)]) for start in starts])
    theirs, plain = joined(normal.logits), joined(lambda part: forward(student, part, OURS))
    unrounded = joined(lambda part: forward(student, part, UNROUNDED))
    _, packed = ours(arguments.student, text, count, window)
    packed = packed.reshape(plain.shape)
    check_normal(table, packed, plain, unrounded, theirs, tokens[1 : count + 1])
    sys.exit(table.failed)


if __name__ == "__main__":
    main()
