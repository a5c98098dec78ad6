"""Are our student and Hugging Face's the same model?

    python3 -m venv venv && venv/bin/pip install torch transformers accelerate gguf llama-cpp-python==0.3.36
    cargo build --release --workspace --examples --bins
    venv/bin/python benches/transformers_agreement.py [--target target/release]

For each architecture transformers makes a small model of random weights and saves it as a folder, as users hold them: in one file or
several, F32 or BF16, with its head tied or not, with scaled rotary frequencies, with codes packed by transformers' own function. Then:

1. Tokens. Our tokenizer of the folder gives the tokens of transformers'.
2. Read. The logits of the student in training, made of the folder, against those of transformers.
3. Written. The folder that `tristill convert` writes of it is loaded by transformers and gives the same logits as before.
4. Packed. The GGUF file that `tristill export` writes, run by our runtime against transformers, and by stock llama.cpp against our
   runtime where llama-cpp-python is installed. The weights are ones that the file holds exactly. Our runtime rounds the head's
   input to 15 bits, llama.cpp rounds activations before each product, so that these bounds are wider.

Distances are relative L2 of one position's logits, the largest of all positions. Ternary layers round activations to 8 bits: where
one lies within 1e-5 steps of a half it becomes either code, and its position and the later ones move by up to a few percent.
So these folders are compared twice: without rounding activations on either side, where the bound is that of the others, and with
it, where it holds for the positions before the first such flip, at least one in twenty; another way of rounding would leave none.
Three models are drawn for these, because a flip may lie in the first position: one of them has to keep a row's bound.
Our runtime keeps keys and values as F16, and so does transformers where the two are compared. Prints a table and exits with 1 if a
bound does not hold.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # The quantised layers would be compiled, which takes minutes and changes roundings.

import numpy
import safetensors.torch
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.integrations import bitnet

TEXT = (
    "Mia has 12 apples and 3456789 pears. She's got £1,234.50, hasn't she?\n\n\r\n\ttab  \n  two\n"
    "Zoë's naïve café — “quoted” 東京 привет 😀👩‍👩‍👧 e\u0301 ½ ² Ⅻ <|im_start|>user\nWhat is 7*8?<|im_end|>\n I'LL we'Ve\n \n"
)
POSITIONS = 48
EQUAL = 1e-4
BEFORE_FLIPS = 0.05
SEEDS = (7, 8, 9)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT = lambda digits: pre_tokenizers.Split(Regex(WORDS % digits), "isolated")
# Architecture, what of its config is special, how its folder is written, and how its text is cut.
CASES = {
    "llama, F32": ("llama", dict(tie_word_embeddings=False), dict(), "llama3"),
    "llama, BF16, 4 files": ("llama", dict(tie_word_embeddings=False), dict(dtype=torch.bfloat16, shards="600KB"), "llama3"),
    "llama of SmolLM's shape, tied": ("llama", dict(hidden_size=288, num_attention_heads=9, num_key_value_heads=3), dict(), "smollm"),
    "llama, rotary llama3": (
        "llama",
        dict(rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
        dict(),
        "llama3",
    ),
    "llama, rotary linear": ("llama", dict(rope_scaling=dict(rope_type="linear", factor=4.0)), dict(dtype=torch.float16), "llama3"),
    "qwen2, F32": ("qwen2", dict(tie_word_embeddings=False), dict(), "qwen2"),
    "qwen2, BF16, files, padded": ("qwen2", dict(vocab_size=640), dict(dtype=torch.bfloat16, shards="600KB"), "qwen2"),
    "qwen3, F32, wide heads": ("qwen3", dict(head_dim=96, tie_word_embeddings=False), dict(), "qwen2"),
    "qwen3, BF16, files, tied": ("qwen3", dict(head_dim=64), dict(dtype=torch.bfloat16, shards="600KB"), "qwen2"),
    "bitnet, not quantised": ("bitnet", dict(), dict(), "llama3"),
    "bitnet, master weights": ("bitnet", dict(), dict(ternary="online"), "llama3"),
    "bitnet, BF16 master, files": ("bitnet", dict(), dict(ternary="online", dtype=torch.bfloat16, shards="600KB"), "llama3"),
    "bitnet, packed, multiplied": ("bitnet", dict(), dict(ternary="autobitlinear"), "llama3"),
    "bitnet, packed, divided": ("bitnet", dict(), dict(ternary="bitlinear"), "llama3"),
    "llama, packed, divided": ("llama", dict(tie_word_embeddings=False), dict(ternary="bitlinear"), "llama3"),
    "qwen2, packed, divided": ("qwen2", dict(), dict(ternary="bitlinear"), "qwen2"),
    "qwen2, packed, rows of 5 x 64": ("qwen2", dict(hidden_size=320, intermediate_size=448), dict(ternary="bitlinear"), "qwen2"),
}
CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "bitnet": (transformers.BitNetConfig, transformers.BitNetForCausalLM),
}


# Folders as users hold them.


def tokenizer(kind):
    """A tokenizer that cuts text as the published ones of this kind do."""
    made = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if kind == "smollm":
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        made.pre_tokenizer = pre_tokenizers.Sequence([SPLIT("{1,3}" if kind == "llama3" else ""), BYTES])
    made.normalizer = normalizers.NFC() if kind == "qwen2" else None
    made.decoder = decoders.ByteLevel()
    marks = ["<|begin_of_text|>", "<|eot_id|>"] if kind == "llama3" else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=marks, initial_alphabet=BYTES.alphabet(), show_progress=False)
    made.train_from_iterator([TEXT] * 3, trainer)
    if kind == "llama3":
        made.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    template = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    settings = dict(bos_token=marks[0], chat_template=template) if kind == "llama3" else {}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=marks[-1], **settings)


def save(folder, architecture, special, form, words, seed):
    """A model of random weights as a folder of this form."""
    config_class, model_class = CLASSES[architecture]
    sizes = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    sizes |= dict(vocab_size=len(words), max_position_embeddings=128, tie_word_embeddings=True) | special
    torch.manual_seed(seed)
    model = model_class(config_class(**sizes))
    for name, parameter in model.named_parameters():
        parameter.data = values(name, parameter.data)
    model = model.to(form.get("dtype", torch.float32))
    model.save_pretrained(folder, max_shard_size=form.get("shards", "5GB"))
    words.save_pretrained(folder)
    if ternary := form.get("ternary"):
        linear_class = "autobitlinear" if ternary == "online" else ternary
        settings = dict(quant_method="bitnet", linear_class=linear_class, quantization_mode="online" if ternary == "online" else "offline")
        edit(folder / "config.json", lambda config: config.update(quantization_config=settings))
        if ternary != "online":
            pack(folder / "model.safetensors", ternary)


def values(name, old):
    """Random weights that a packed file holds exactly, so that nothing but the formulas is compared."""
    if old.dim() == 1:
        return 0.3 * torch.randn(old.shape) + old.mean().round()
    new = torch.randn(old.shape) / old.shape[1] ** 0.5
    if "_proj" in name:  # 16 bits with a mean of 16 bits, and no weight between two codes.
        mean = new.abs().mean()
        new = torch.where((new.abs() / mean - 0.5).abs() < 0.01, 1.05 * new, new)
        mean = new.abs().mean()
        return (new * (mean.half() / mean)).half().float()
    # Embedding and head: in each block of 32 one scale and 8 bits, of which all are used.
    blocks = (new.reshape(-1, 32) * 1024).round().clamp(-126, 126)
    blocks[:, 0] = 127
    return blocks.reshape(old.shape) / 1024


def pack(path, linear_class):
    """Put codes in the place of linear layers, as transformers packs them."""
    packed = {}
    for name, weight in safetensors.torch.load_file(path).items():
        packed[name] = weight
        if "_proj.weight" in name:
            scale = weight.abs().mean().half().float().reshape(1)
            packed[name] = bitnet.pack_weights((weight / scale).round().clamp(-1, 1))
            packed[name + "_scale"] = scale if linear_class == "autobitlinear" else 1 / scale
    safetensors.torch.save_file(packed, path, {"format": "pt"})


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


# What computes.


class HalfCache(transformers.DynamicCache):
    """Keys and values as F16, as our runtime keeps them."""

    def update(self, keys, values, *arguments, **named):
        return super().update(keys.half().float(), values.half().float(), *arguments, **named)


def theirs(folder, tokens, cache=None):
    """Logits [t, v] by transformers, in F32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens]), past_key_values=cache).logits[0].double().numpy()


class Unrounded:
    """transformers without rounding activations or weights."""

    PLACES = [(bitnet.ActQuant, "apply"), (bitnet.WeightQuant, "apply"), (bitnet.BitLinear, "activation_quant")]

    def __enter__(self):
        self.kept = [vars(owner).get(name) for owner, name in self.PLACES]
        bitnet.ActQuant.apply = bitnet.WeightQuant.apply = staticmethod(lambda x: x)
        bitnet.BitLinear.activation_quant = lambda self, x, num_bits=8: (x, torch.ones(1))

    def __exit__(self, *_):
        for (owner, name), kept in zip(self.PLACES, self.kept):
            delattr(owner, name) if kept is None else setattr(owner, name, kept)


class Ours:
    def __init__(self, target, place):
        self.target, self.place = target, place

    def run(self, *command):
        done = subprocess.run([self.target / command[0], *map(str, command[1:])], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr}")

    def logits(self, program, *arguments):
        """All tokens of the text, and logits [t, v]."""
        text, tokens, logits = self.place / "text", self.place / "tokens", self.place / "logits"
        text.write_text(TEXT, newline="")
        kept = [POSITIONS] if program == "folder_logits" else [POSITIONS, POSITIONS]
        self.run(f"examples/{program}", arguments[0], text, *kept, tokens, logits, *arguments[1:])
        found = numpy.fromfile(logits, numpy.float32).reshape(POSITIONS, -1)
        return numpy.fromfile(tokens, numpy.uint32).tolist(), found.astype(numpy.float64)


def llama_cpp_logits(path, tokens):
    """Logits by stock llama.cpp with its cache in F32."""
    model = llama_cpp.Llama(
        str(path), n_ctx=128, n_batch=128, logits_all=True, verbose=False, flash_attn=False, type_k=0, type_v=0, n_threads=1
    )
    model.eval(tokens)
    return numpy.array(model.scores[: len(tokens)], numpy.float64)


# The checks.


class Table:
    def __init__(self):
        self.kept, self.missed = set(), set()

    def row(self, case, what, figure, bound, holds, always=True):
        if not holds:
            self.missed.add((case, what, always))
        elif not always:
            self.kept.add((case, what, always))
        print(f"{case:<30} {what:<44} {figure:>22}  {bound:<16} {'holds' if holds else 'FAILS'}", flush=True)

    def distances(self, case, what, found, expected, bound, share=1.0):
        """At least this share of the positions is as near as the bound."""
        apart = numpy.linalg.norm(found - expected, axis=1) / numpy.linalg.norm(expected, axis=1)
        near = float((apart <= bound).mean())
        figure = f"{apart.max():.1e}" if share == 1.0 else f"{apart.max():.1e}, {near:.0%} near"
        needed = f"<= {bound:g}" if share == 1.0 else f"{share:.0%} <= {bound:g}"
        self.row(case, what, figure, needed, near >= share, always=share == 1.0)


def check(table, ours, case, place, seed):
    architecture, special, form, kind = CASES[case]
    words, folder, ternary = tokenizer(kind), place / "folder", "ternary" in form
    save(folder, architecture, special, form, words, seed)
    tokens = words(TEXT, add_special_tokens=False)["input_ids"]
    found, read = ours.logits("folder_logits", folder)
    table.row(case, "tokens that differ", str(sum(a != b for a, b in zip(tokens, found)) + abs(len(tokens) - len(found))), "0", found == tokens)

    tokens = tokens[:POSITIONS]
    expected = theirs(folder, tokens)
    if ternary:
        _, plain = ours.logits("folder_logits", folder, "none")
        with Unrounded():
            table.distances(case, "read, activations not rounded", plain, theirs(folder, tokens), EQUAL)
    # A mean of BF16 weights is rounded to F16 here and to nothing there.
    bound, share = (1e-3 if form.get("dtype") == torch.bfloat16 else EQUAL, BEFORE_FLIPS) if ternary else (EQUAL, 1.0)
    table.distances(case, "read", read, expected, bound, share)

    forms = [["--type", "f32"]] + ([["--type", "bf16"]] if form.get("dtype") == torch.bfloat16 else [])
    forms += [["--packed"]] if ternary else []
    for number, arguments in enumerate(forms):
        written = place / f"written-{number}"
        ours.run("tristill", "convert", folder, "--to", written, *arguments)
        table.distances(case, f"written {' '.join(arguments)}, by transformers", theirs(written, tokens), expected, bound, share)

    packed = place / "student.gguf"
    ours.run("tristill", "export", folder, "--to", packed)
    found, run = ours.logits("logits", packed)
    same = "0" if found[:POSITIONS] == tokens else "some"
    table.row(case, "GGUF, tokens that differ", same, "0", same == "0")
    table.distances(case, "GGUF, by our runtime", run, theirs(folder, tokens, HalfCache()), 1e-3, BEFORE_FLIPS if ternary else 1.0)
    if llama_cpp and not (architecture == "bitnet"):
        table.distances(case, "GGUF, llama.cpp against our runtime", llama_cpp_logits(packed, tokens), run, 5e-2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path("target/release"), help="where our programs are")
    parser.add_argument("--case", help="only the cases whose name has this in it", default="")
    arguments = parser.parse_args()
    try:
        import llama_cpp
    except ImportError:
        llama_cpp = None
        print("llama-cpp-python is not installed: llama.cpp is not asked")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    table = Table()
    for case in CASES:
        for seed in SEEDS if "ternary" in CASES[case][2] else SEEDS[:1]:
            if arguments.case in case:
                with tempfile.TemporaryDirectory() as place:
                    check(table, Ours(arguments.target.absolute(), pathlib.Path(place)), case, pathlib.Path(place), seed)
    broken = table.missed - table.kept
    print(f"{len(broken)} bounds do not hold")
    sys.exit(bool(broken))
