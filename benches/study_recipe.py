"""What does each part of the recipe bring? A teacher, ternary students of a fifth of its size, and paired differences.

    cargo build --release
    python3 benches/study_recipe.py [--program target/release/tristill] [--runs checkpoints/study] [--seeds 3] [--only NAME ...]

A teacher in full precision is trained on the task of `configs/study.toml`. Then students of the config's size are trained on the same
rows for the same steps, each variant with as many seeds, seed by seed, and all answer the same held-out questions. Printed is, for
each variant, the share of right answers for each seed, and the mean difference to the variant it is held against: for each question
the mean over seeds of right minus wrong, and over the questions its 95 % interval (normal). What was finished is not run again.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess

CONFIG = "configs/study.toml"
TEACHER = ["model.width=512", "model.layers=5", "model.heads=8", "model.kv_heads=4", "model.feed_forward=1024", "model.quant=none",
           "train.steps=3000", "train.rows=4", "train.microbatch_rows=2", "train.rate=7e-4", "train.warm_up_steps=150"]
SHARED = ["traces", "dataset", "annotated"]

RELATION = "train.teacher.relation={relation='dot_product',heads=8,block=3,teacher_block=4,weight=1.0}"
# Each variant's settings, and the variant that it is held against.
VARIANTS = {
    "text only": ([], None),
    "text only, no sub-norms": (["model.architecture=llama"], "text only"),
    "teacher beside": (["TEACHER"], "text only"),
    "teacher stored": (["TEACHER", "STORED"], "teacher beside"),
    "teacher beside, relation": (["TEACHER", RELATION], "teacher beside"),
    "teacher stored, scale tensor": (["TEACHER", "STORED", "model.scale=tensor"], "teacher stored"),
    "teacher stored, scale group": (["TEACHER", "STORED", "model.scale=group"], "teacher stored"),
    "full precision, text only": (["model.quant=none"], "text only"),
    "full precision, teacher stored": (["TEACHER", "STORED", "model.quant=none"], "teacher stored"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/tristill")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("checkpoints/study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    arguments = parser.parse_args()

    teacher = arguments.runs / "teacher"
    distill(arguments.program, teacher, TEACHER)
    checkpoint = max(teacher.glob("step-*"))
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.only:
            settings = [setting for word in VARIANTS[name][0] for setting in spelled(word, checkpoint)]
            run = folder(arguments.runs, name, seed)
            share(arguments.runs, run, "STORED" in VARIANTS[name][0])
            distill(arguments.program, run, [*settings, f"train.seed={seed}"])
            keep(arguments.runs, run)
        table(arguments.runs, arguments.only, seed)


def spelled(word, checkpoint):
    """A word of a variant as settings."""
    return {"TEACHER": [f"train.teacher.from='{checkpoint}'"], "STORED": ["train.teacher.top_k=32"]}.get(word, [word])


def folder(runs, name, seed):
    return runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def distill(program, run, settings):
    """A whole run, unless it was finished."""
    if (run / "report.json").exists():
        return
    print(f"== {run.name}", flush=True)
    subprocess.run([program, "distill", CONFIG, "--run", run, *(word for setting in settings for word in ("--set", setting))], check=True)


def share(runs, run, stored):
    """Give a run the traces and the dataset that the runs before it made, as links."""
    for part in SHARED:
        there, here = runs / "shared" / part, run / part
        if there.exists() and not here.exists() and (stored or part != "annotated"):
            shutil.copytree(there, here, copy_function=os.link)


def keep(runs, run):
    """Keep what a run made that later ones can take."""
    for part in SHARED:
        there, here = runs / "shared" / part, run / part
        if here.exists() and not there.exists():
            shutil.copytree(here, there, copy_function=os.link)


def marks(run):
    """For each held-out question whether the answer is right."""
    with open(run / "eval/held_out/completions.jsonl", encoding="utf-8") as lines:
        return {record["id"]: record for record in map(json.loads, lines)}


if __name__ == "__main__":
    main()
