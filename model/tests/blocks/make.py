"""Blocks of each format that PyPI's gguf knows, and the weights that it reads from them.

For each format in turn: the bytes of 512 weights, then the weights as f32. Blocks of the integer formats are random bytes, so that
every code occurs; the ternary ones are quantised, because not every byte is one of theirs.

    pip install gguf==0.19.0 && python3 model/tests/blocks/make.py model/tests/blocks/blocks.bin
"""

import sys

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

WEIGHTS = 512
# Where the f16 scale of a block is.
SCALE_AT = {"Q4_0": 0, "Q8_0": 0, "Q6_K": 208}

random = numpy.random.default_rng(7)
out = b""
for name in ["Q4_0", "Q8_0", "Q6_K", "TQ1_0", "TQ2_0"]:
    kind = GGMLQuantizationType[name]
    block_weights, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = WEIGHTS // block_weights
    if name in SCALE_AT:
        packed = random.integers(0, 256, (blocks, block_bytes), dtype=numpy.uint8)
        scales = random.normal(size=blocks).astype("<f2")
        packed[:, SCALE_AT[name] : SCALE_AT[name] + 2] = scales.view(numpy.uint8).reshape(blocks, 2)
        packed = packed.reshape(-1)
    else:
        scales = numpy.repeat(random.normal(size=blocks), block_weights)
        packed = quantize((random.integers(-1, 2, WEIGHTS) * scales).astype(numpy.float32), kind)
    out += packed.tobytes() + dequantize(packed, kind).astype("<f4").tobytes()
open(sys.argv[1], "wb").write(out)
