"""How fast do we train beside PyTorch, eager and compiled, in the same minutes?

    python3 -m venv venv && venv/bin/pip install numpy torch    # any build for the CPU
    cargo build --release
    venv/bin/python benches/pytorch_training.py small --threads 2 --folder bench-small

The same student (SubLN, rotary positions, grouped queries, SwiGLU, ternary weights with row scales and int8 activations, both
straight-through), the same number of tokens per step, cross-entropy on the same share of them, AdamW with global clipping, f32.
PyTorch gets what makes it fast: query, key and value in one product, gate and up too, its own attention, the fused optimizer; and
its attention ignores where documents end, which ours does not. The text is not the same, which no speed depends on. Both must learn: a
loss that does not fall ends the run.

With --teacher a teacher of the student's sizes in full precision and with random weights runs beside it, and half of the loss is the
KL divergence from all its probabilities. --set KEY=VALUE changes our config, as train.gradient_checkpointing=true.

The dataset is made in the folder at first use and serves again. With --turns 0 nothing else is done.

The programs take turns, because a machine's speed changes from minute to minute; a turn's figure is the median over its windows of
five steps, and each figure the median of the turns. Ratios count, not figures, and only on a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

# Width, blocks, heads, key heads, feed-forward width, vocabulary, tokens per row, rows per step, steps of a turn.
SIZES = {
    "small": (256, 4, 4, 2, 512, 512, 128, 16, 100),
    "medium": (512, 6, 8, 4, 1024, 4096, 256, 8, 40),
    "large": (768, 8, 12, 4, 2048, 4096, 512, 4, 10),
}
WINDOW = 5

CONFIG = """
[synth]
seed = 1
problems = {problems}
held_out = 10
unseen = 10
steps = [1, 3]
max_operand = 100
operations = ["add", "subtract", "multiply", "divide"]
[data]
{data}
rules = {{ decontaminate = "exact" }}
[model]
width = {width}
layers = {blocks}
heads = {heads}
kv_heads = {kv_heads}
feed_forward = {inner}
context = {length}
[train]
steps = {steps}
rows = {rows}
rate = 1e-3
warm_up_steps = 5
log_every = {window}
[eval]
max_tokens = 16
"""


def run(command, **options):
    """A program's output and the most memory it held, in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output}")
    return output, usage.ru_maxrss / 1024


def train(program, folder, settings, **environment):
    """Our training from the beginning; the most memory it held, in MiB."""
    for made in [*folder.glob("run/step-*"), folder / "run/metrics.jsonl"]:
        subprocess.run(["rm", "-rf", made], check=True)
    settings = [word for setting in settings for word in ("--set", setting)]
    command = [program, "train", folder / "bench.toml", "--run", folder / "run", *settings]
    return run(command, env={**os.environ, **environment}, stderr=subprocess.STDOUT)[1]


def ours(program, folder, threads, settings):
    """Tokens per second, memory and the losses of one turn of ours."""
    memory = train(program, folder, settings, RAYON_NUM_THREADS=str(threads))
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").open()]
    return statistics.median(line["tokens_per_s"] for line in lines[1:]), memory, [line["loss"] for line in lines]


def theirs(size, mode, threads, supervised, has_teacher):
    """The same of PyTorch, in a process of its own."""
    command = [sys.executable, __file__, size, "--threads", str(threads), "--worker", mode, "--supervised", str(supervised)]
    output, memory = run(command + ["--teacher"] * has_teacher)
    result = json.loads(output.splitlines()[-1])
    return result["tokens_per_s"], memory, result["losses"]


def worker(size, mode, threads, supervised, has_teacher):
    """One turn of PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    width, blocks, heads, kv_heads, inner, vocab, length, rows, steps = SIZES[size]
    head_width = width // heads

    def norm(x, gain):
        return functional.rms_norm(x, (x.shape[-1],), gain, 1e-5)

    def linear(x, weight, is_ternary):
        if not is_ternary:
            return functional.linear(x, weight)
        scale = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        x = x + ((x * scale).round().clamp(-127, 127) / scale - x).detach()
        scale = weight.abs().mean(1, keepdim=True).clamp(min=1e-5)
        weight = weight + ((weight / scale).round().clamp(-1, 1) * scale - weight).detach()
        return functional.linear(x, weight)

    angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, head_width, 2) / head_width))
    cosines, sines = torch.cat([angles.cos()] * 2, -1), torch.cat([-angles.sin(), angles.sin()], -1)

    def turn(x):
        return x * cosines + x.roll(head_width // 2, -1) * sines

    class Block(nn.Module):
        def __init__(self, is_ternary):
            super().__init__()
            self.is_ternary = is_ternary
            matrix = lambda outputs, inputs: nn.Parameter(torch.randn(outputs, inputs) * 0.02)
            gain = lambda inputs: nn.Parameter(torch.ones(inputs))
            self.qkv, self.output = matrix((heads + 2 * kv_heads) * head_width, width), matrix(width, width)
            self.gate_up, self.down = matrix(2 * inner, width), matrix(width, inner)
            self.gains = nn.ParameterList([gain(width), gain(width), gain(width), gain(inner)])

        def forward(self, h):
            b, t, _ = h.shape
            qkv = linear(norm(h, self.gains[0]), self.qkv, self.is_ternary).view(b, t, heads + 2 * kv_heads, head_width).transpose(1, 2)
            q, k, v = qkv.split([heads, kv_heads, kv_heads], 1)
            mixed = functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=True)
            h = h + linear(norm(mixed.transpose(1, 2).reshape(b, t, width), self.gains[1]), self.output, self.is_ternary)
            gate, up = linear(norm(h, self.gains[2]), self.gate_up, self.is_ternary).chunk(2, -1)
            return h + linear(norm(functional.silu(gate) * up, self.gains[3]), self.down, self.is_ternary)

    class Student(nn.Module):
        def __init__(self, is_ternary):
            super().__init__()
            self.embedding = nn.Parameter(torch.randn(vocab, width) * 0.02)
            self.blocks = nn.ModuleList(Block(is_ternary) for _ in range(blocks))
            self.gain = nn.Parameter(torch.ones(width))

        def forward(self, tokens, places):
            h = functional.embedding(tokens, self.embedding)
            for block in self.blocks:
                h = block(h)
            h = norm(h.reshape(-1, width)[places], self.gain)
            return functional.linear(h, self.embedding)

    student, teacher = Student(True), Student(False).requires_grad_(False) if has_teacher else None

    def loss_of(tokens, places, targets):
        logits = student(tokens, places)
        cross_entropy = functional.cross_entropy(logits, targets)
        if teacher is None:
            return cross_entropy
        log_said, log_known = (functional.log_softmax(x, -1) for x in (logits, teacher(tokens, places)))
        return 0.5 * cross_entropy + 0.5 * functional.kl_div(log_said, log_known, reduction="batchmean", log_target=True)

    forward = torch.compile(loss_of) if mode == "compile" else loss_of
    matrices = [p for p in student.parameters() if p.dim() == 2]
    gains = [p for p in student.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    # Text that can be learned: each token follows from the one before.
    following = torch.randperm(vocab)
    count = int(rows * length * supervised)
    windows, losses = [], []
    for step in range(steps + WINDOW):
        if step % WINDOW == 0:
            started = time.perf_counter()
        tokens = [torch.randint(vocab, (rows,))]
        for _ in range(length):
            tokens.append(following[tokens[-1]])
        tokens = torch.stack(tokens, 1)
        places = torch.randperm(rows * length)[:count]
        loss = forward(tokens[:, :-1], places, tokens[:, 1:].reshape(-1)[places])
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % WINDOW == WINDOW - 1:
            windows.append(WINDOW * rows * length / (time.perf_counter() - started))
            losses.append(loss.item())
    print(json.dumps({"tokens_per_s": statistics.median(windows[1:]), "losses": losses}))


def prepare(program, folder, size, has_teacher):
    """Make the dataset and the teacher, unless they are there; the share of the dataset's tokens that are supervised."""
    width, blocks, heads, kv_heads, inner, vocab, length, rows, steps = SIZES[size]
    problems = 2000 + steps * rows * length // 60
    data = f"vocab = {vocab}"
    if vocab > 512:
        # The teacher's own words are too few for a large vocabulary.
        data = f'sources = [{{ path = "${{TRISTILL_DATA}}/gsm8k/train.jsonl.gz" }}]\n{data}'
    window = WINDOW
    values = {key: value for key, value in locals().items() if f"{{{key}}}" in CONFIG}
    folder.mkdir(exist_ok=True)
    (folder / "bench.toml").write_text(CONFIG.format(**values))
    manifest = folder / "run/dataset/manifest.json"
    if not manifest.exists():
        for stage in ["synth", "ingest"]:
            run([program, stage, folder / "bench.toml", "--run", folder / "run"], stderr=subprocess.STDOUT)
    if has_teacher and not (folder / "teacher").exists():
        train(program, folder, ["model.quant=none", "train.steps=1", "train.warm_up_steps=0"])
        (folder / "run/step-00000001").rename(folder / "teacher")
    if has_teacher:
        # It brings the tokenizer.
        config = (folder / "bench.toml").read_text().replace(f"vocab = {vocab}\n", "")
        (folder / "bench.toml").write_text(config)
    manifest = json.loads(manifest.read_text())
    return manifest["supervised_tokens"] / manifest["tokens"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default="target/release/tristill")
    parser.add_argument("--folder", type=pathlib.Path, default="bench-training", help="where the dataset and the runs are")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--teacher", action="store_true", help="distil a teacher of the same sizes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our config")
    parser.add_argument("--worker", choices=["eager", "compile"], help=argparse.SUPPRESS)
    parser.add_argument("--supervised", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.size, arguments.worker, arguments.threads, arguments.supervised, arguments.teacher)

    folder = arguments.folder
    supervised = prepare(arguments.program, folder, arguments.size, arguments.teacher)
    settings = arguments.set
    if arguments.teacher:
        settings = [f"train.teacher.from={folder.resolve() / 'teacher'}", "train.teacher.share=0.5", *settings]
    turns = {"ours": [], "eager": [], "compile": []}
    for _ in range(arguments.turns):
        turns["ours"].append(ours(arguments.program, folder, arguments.threads, settings))
        for mode in ["eager", "compile"]:
            turns[mode].append(theirs(arguments.size, mode, arguments.threads, supervised, arguments.teacher))
    if not arguments.turns:
        return
    for name, results in turns.items():
        for _, _, losses in results:
            if not losses[-1] < losses[0]:
                sys.exit(f"{name} does not learn: its loss went from {losses[0]} to {losses[-1]}")

    width, blocks, *_, length, rows, _ = SIZES[arguments.size]
    print(f"{arguments.size}: width {width}, {blocks} blocks, {rows} rows of {length} tokens, {supervised:.0%} supervised, {arguments.threads} threads{', a teacher beside' * arguments.teacher}")
    speeds, memories = ({name: statistics.median(result[at] for result in results) for name, results in turns.items()} for at in (0, 1))
    for name, results in turns.items():
        spread = f"{min(result[0] for result in results):.0f} to {max(result[0] for result in results):.0f}"
        of_speed, of_memory = speeds["ours"] / speeds[name], memories["ours"] / memories[name]
        print(f"  {name:8} {speeds[name]:8.0f} tokens/s ({spread}), ours {of_speed:.2f} of it; peak {memories[name]:.0f} MiB, ours {of_memory:.2f} of it")


if __name__ == "__main__":
    main()
