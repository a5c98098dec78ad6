"""A packed `bitnet` student in NumPy, read and computed without any of the code that is tested against it.

How activations are rounded is a `Rule`: llama.cpp's, ours, or none. Shapes: t positions, n inputs, m outputs, b blocks of a row,
h heads, g key and value heads, w width of a head.
"""

import collections
import sys

import gguf
import numpy


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
    """0 where b is 0: a block of zeros."""
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
    """Ours: one scale for a token, max |x| / 127, and for the head max |x| / 16256."""
    blocks, ones = leave(x, matrix)
    largest_code = numpy.float32(16256 if matrix.format == "Q8_0" else 127)
    scale = numpy.maximum(numpy.abs(x).max(axis=1, keepdims=True), numpy.float32(1e-5)) / largest_code
    return numpy.rint(blocks / scale[:, :, None]), ones * scale


def leave(x, matrix):
    """No rounding: the activations as they are, with scales of one."""
    blocks, _ = in_blocks(x, x.shape[1] // matrix.scales.shape[1])
    return blocks, numpy.ones(blocks.shape[:2], numpy.float32)


def multiply(matrix, x, rounding):
    """x [t, n] times the matrix, [t, m]. Sums of 8-bit codes are below 2^24, so f32 holds them exactly."""
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


def angles_as_llama_cpp(t, w, base):
    """Angle [t, w / 2] of each position and pair, multiplied up in f32 as ggml does: at position 1,000 that moves it by up to 1e-4."""
    angles = numpy.empty((t, w // 2), numpy.float32)
    angles[:, 0] = numpy.arange(t)
    for pair in range(1, w // 2):
        angles[:, pair] = angles[:, pair - 1] * numpy.float32(base ** numpy.float32(-2 / w))
    return angles


def angles_in_f64(t, w, base):
    """Ours."""
    return numpy.arange(t)[:, None] * float(base) ** (-2.0 * numpy.arange(w // 2) / w)


def rotate(x_thw, angles):
    """Rotary embedding of halves (i, i + w / 2), arXiv:2104.09864, eq. 34."""
    cos, sin = (turn(angles).astype(numpy.float32)[:, None] for turn in (numpy.cos, numpy.sin))
    low, high = numpy.split(x_thw, 2, axis=2)
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


def forward(student, tokens, rule, look=lambda name, value: value):
    """Logits [t, v]. `look` sees every step under llama.cpp's name for it and returns what to go on with."""
    t = len(tokens)
    angles = rule.angles(t, student.head_width, student.rope_base)
    heads = lambda x: x.reshape(t, -1, student.head_width)
    stream = student.matrices["token_embd"].rows(tokens)
    for layer in range(student.layers):
        linear = lambda x, name: multiply(student.matrices[f"blk.{layer}.{name}"], x, rule.round)
        normed = lambda x, name: look(f"{name}-{layer}", norm(x, student.vectors[f"blk.{layer}.{name}"], student.epsilon))
        see = lambda name, value: look(f"{name}-{layer}", value)

        x = normed(stream, "attn_norm")
        q, k, v = see("Qcur", linear(x, "attn_q")), see("Kcur", linear(x, "attn_k")), see("Vcur", linear(x, "attn_v"))
        q = see("Qcur rotated", rotate(heads(q), angles).reshape(t, -1))
        k = see("Kcur rotated", rotate(heads(k), angles).reshape(t, -1))
        x = see("kqv_out", attend(heads(q), rule.keep(heads(k)), rule.keep(heads(v))))
        x = see("attn_out", linear(normed(x, "attn_sub_norm"), "attn_output"))
        stream = see("ffn_inp", stream + x)

        x = normed(stream, "ffn_norm")
        gate, up = see("ffn_gate", linear(x, "ffn_gate")), see("ffn_up", linear(x, "ffn_up"))
        x = see("ffn_sub_out", gate / (numpy.float32(1) + numpy.exp(-gate)) * up)
        x = see("ffn_down", linear(normed(x, "ffn_sub_norm"), "ffn_down"))
        stream = see("l_out", stream + x)
    x = look("result_norm", norm(stream, student.vectors["output_norm"], student.epsilon))
    return look("result_output", multiply(student.matrices["token_embd"], x, rule.round))


def in_f16(x):
    return x.astype(numpy.float16).astype(numpy.float32)


# How activations are rounded, how tokens are rotated, and how keys and values are kept.
Rule = collections.namedtuple("Rule", "round angles keep")
LLAMA_CPP = Rule(round_as_llama_cpp, angles_as_llama_cpp, lambda x: x)
OURS = Rule(round_per_token, angles_in_f64, in_f16)
UNROUNDED = Rule(leave, angles_in_f64, lambda x: x)
