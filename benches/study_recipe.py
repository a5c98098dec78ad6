"""What does each part of the recipe bring? A teacher, ternary students of a fifth of its size, and paired differences.

    cargo build --release
    python3 benches/study_recipe.py [--program target/release/tristill] [--runs checkpoints/study] [--seeds 3] [--only NAME ...] [--side-by-side 2]

A teacher in full precision is trained on the task of `configs/study.toml` and on products. Then students of the config's size are
trained on the same traces for the same steps, each variant with as many seeds, seed by seed, and all answer the same held-out
questions. Printed are, for each variant, the share of right answers for each seed, and by how many points it differs from the variant
that it is held against: for each seed by `tristill compare`, and the mean with a 95 % interval that takes the questions of different
seeds as independent; what seeds themselves differ by is more.

What was finished is not run again, so that a study that was stopped goes on. Runs side by side share the cores; no bit depends on it.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import statistics
import subprocess

CONFIG = "configs/study.toml"
TEACHER = [
    *("synth.problems=60000", 'synth.operations=["add", "subtract", "multiply"]', "data.vocab=512"),
    *("model.width=512", "model.layers=5", "model.heads=8", "model.kv_heads=4", "model.feed_forward=1024", "model.quant=none"),
    *("train.steps=2000", "train.rate=7e-4", "train.warm_up_steps=150"),
]
# The tokenizer is the teacher's for all; where it teaches, it brings it itself.
TEXT = ["data.tokenizer={teacher}/tokenizer.json"]
BESIDE = ["train.teacher.from={teacher}", "train.teacher.temperature=2"]
STORED = [*BESIDE, "train.teacher.top_k=32"]
RELATION = "train.teacher.relation={{relation='scaled',heads=8,block=3,teacher_block=4,weight=0.3}}"
# Each variant's settings, and the variant that it is held against.
VARIANTS = {
    "text": (TEXT, None),
    "text, sub-norms": ([*TEXT, "model.architecture=bitnet"], "text"),
    "text, full precision": ([*TEXT, "model.quant=none"], "text"),
    "text, scale tensor": ([*TEXT, "model.scale=tensor"], "text"),
    "text, scale group": ([*TEXT, "model.scale=group"], "text"),
    "beside": (BESIDE, "text"),
    "beside, full precision": ([*BESIDE, "model.quant=none"], "beside"),
    "beside, relation": ([*BESIDE, RELATION], "beside"),
    "stored": (STORED, "beside"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/tristill")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("checkpoints/study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--side-by-side", type=int, default=2)
    arguments = parser.parse_args()

    runs, program, names = arguments.runs, arguments.program, arguments.only
    runs.mkdir(parents=True, exist_ok=True)
    distill(program, runs / "teacher", TEACHER)
    teacher = max((runs / "teacher").glob("step-*"))

    def student(name, seed):
        settings = [setting.format(teacher=teacher) for setting in VARIANTS[name][0]]
        distill(program, folder(runs, name, seed), [*settings, f"train.seed={seed}"], os.cpu_count() // arguments.side_by_side)

    with concurrent.futures.ThreadPoolExecutor(arguments.side_by_side) as pool:
        for seed in range(1, arguments.seeds + 1):
            list(pool.map(lambda name: student(name, seed), names))
            print(table(program, runs, names, seed), flush=True)


def folder(runs, name, seed):
    return runs / f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def distill(program, run, settings, threads=None):
    """A whole run, on all threads or on so many, unless it was finished."""
    if not (run / "report.json").exists():
        print(f"== {run.name}", flush=True)
        overrides = [word for setting in settings for word in ("--set", setting)]
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)} if threads else os.environ
        subprocess.run([program, "distill", CONFIG, "--run", run, *overrides], check=True, env=environment)


def table(program, runs, names, seeds):
    """A line for each variant."""
    lines = [f"{'':24} {'right, %':>{7 * seeds}}  held against             points by seed, mean (95 %)"]
    for name in names:
        right = [100 * score(folder(runs, name, seed)) for seed in range(1, seeds + 1)]
        line = f"{name:24} " + "".join(f"{share:7.1f}" for share in right)
        if against := VARIANTS[name][1]:
            found = [compared(program, folder(runs, against, seed), folder(runs, name, seed)) for seed in range(1, seeds + 1)]
            mean = statistics.mean(difference for difference, _ in found)
            half = math.sqrt(sum(half**2 for _, half in found)) / seeds
            each = ", ".join(f"{difference:+.1f}" for difference, _ in found)
            line += f"  {against:24} {each}, {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"
        lines.append(line)
    return "\n".join(lines)


def score(run):
    return json.loads((run / "report.json").read_text())["eval"]["held_out"]["accuracy"]


def compared(program, against, run):
    """By how many points the second run is better on the held-out questions, and half of the 95 % interval."""
    done = subprocess.run([program, "compare", "--json", against, run], check=True, capture_output=True, text=True)
    held_out = next(found for found in json.loads(done.stdout) if found["set"] == "held_out")
    return 100 * held_out["difference"], 50 * (held_out["high"] - held_out["low"])


if __name__ == "__main__":
    main()
