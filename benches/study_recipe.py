"""What does each part of the recipe bring? A teacher, ternary students of a tenth of its size, and paired differences.

    cargo build --release
    python3 benches/study_recipe.py [--program target/release/tristill] [--runs checkpoints/study] [--seeds 3] [--only NAME ...] [--side-by-side 2]

A teacher in full precision learns from the programmatic one (`configs/study_teacher.toml`). It is asked a few questions at temperature 1,
and what it says, mistakes included, is all the text that students have (`configs/study.toml`): each variant with as many seeds, seed by
seed, for the same steps, and all answer the same held-out questions, which no one was trained on. Printed are, for each variant, the
share of right answers for each seed, and by how many points it differs from the variants that it is held against: for each seed by
`tristill compare`, and the mean with a 95 % interval that takes the questions of different seeds as independent.

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

TEACHER, STUDENT = "configs/study_teacher.toml", "configs/study.toml"
# Few questions, so that students see each trace many times and can learn its mistakes by heart.
QUESTIONS = ["synth.problems=3000", 'synth.operations=["add", "subtract"]']
# The tokenizer is the teacher's for all; where it teaches, it brings it itself.
TEXT = ["data.tokenizer={teacher}/tokenizer.json"]
BESIDE = ["train.teacher.from={teacher}", "train.teacher.share=1"]
STORED = [*BESIDE, "train.teacher.top_k=32"]
RELATION = "train.teacher.relation={{relation='scaled',heads=8,block=1,teacher_block=4,weight=0.3}}"
FULL = "model.quant=none"
# Each variant's settings, and the variants that it is held against.
VARIANTS = {
    "text": (TEXT, []),
    "text, sub-norms": ([*TEXT, "model.architecture=bitnet"], ["text"]),
    "text, full precision": ([*TEXT, FULL], ["text"]),
    "text, scale tensor": ([*TEXT, "model.scale=tensor"], ["text"]),
    "text, scale group": ([*TEXT, "model.scale=group"], ["text"]),
    "beside": (BESIDE, ["text"]),
    "beside, relation": ([*BESIDE, RELATION], ["text", "beside"]),
    "stored": (STORED, ["text", "beside"]),
    "stored, full precision": ([*STORED, FULL], ["text", "stored"]),
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
    os.environ["STUDY"] = str(runs)
    distill(program, TEACHER, runs / "teacher", [])
    teacher = max((runs / "teacher").glob("step-*"))
    if not (runs / "traces.jsonl").exists():
        sample(program, runs)

    def student(name, seed):
        settings = [setting.format(teacher=teacher) for setting in VARIANTS[name][0]]
        distill(program, STUDENT, folder(runs, name, seed), [*settings, f"train.seed={seed}"], os.cpu_count() // arguments.side_by_side)

    with concurrent.futures.ThreadPoolExecutor(arguments.side_by_side) as pool:
        for seed in range(1, arguments.seeds + 1):
            list(pool.map(lambda name: student(name, seed), names))
            print(table(program, runs, names, seed), flush=True)


def sample(program, runs):
    """One answer of the teacher to each question, as traces without a reference."""
    questions = runs / "questions"
    subprocess.run([program, "synth", TEACHER, "--run", questions, *overrides(QUESTIONS)], check=True)
    problems = [json.loads(line) for line in open(questions / "traces/train.jsonl")]
    asked = {problem["id"]: problem["messages"][0]["content"] for problem in problems}
    lines = [{"id": p["id"], "question": asked[p["id"]], "answer": p["reference"]} for p in problems]
    (runs / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ask = [program, "eval", runs / "teacher/student.gguf", "--set", runs / "asked.jsonl", "--temperature", "1", "--max-tokens", "160"]
    subprocess.run([*ask, "--to", runs / "said"], check=True)
    said = [json.loads(line) for line in open(runs / "said/eval/asked/completions.jsonl")][1:]
    whole = [completion for completion in said if completion["finish"] == "stop"]
    print(f"== {len(whole)} of {len(said)} answers of the teacher have an end", flush=True)
    with open(runs / "traces.new", "w") as traces:
        for completion in whole:
            messages = [
                {"role": "user", "content": asked[completion["id"]]},
                {"role": "assistant", "content": completion["text"]},
            ]
            traces.write(json.dumps({"id": completion["id"], "messages": messages}) + "\n")
    (runs / "traces.new").rename(runs / "traces.jsonl")


def folder(runs, name, seed):
    return runs / f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def distill(program, config, run, settings, threads=None):
    """A whole run, on all threads or on so many, unless it was finished."""
    if not (run / "report.json").exists():
        print(f"== {run.name}", flush=True)
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)} if threads else os.environ
        subprocess.run([program, "distill", config, "--run", run, *overrides(settings)], check=True, env=environment)


def overrides(settings):
    return [word for setting in settings for word in ("--set", setting)]


def table(program, runs, names, seeds):
    """A line for each variant, and one more for each further variant that it is held against."""
    lines = [f"{'':24} {'right, %':>{7 * seeds}}  held against             points by seed, mean (95 %)"]
    for name in names:
        right = [100 * score(folder(runs, name, seed)) for seed in range(1, seeds + 1)]
        found = [difference(program, runs, against, name, seeds) for against in VARIANTS[name][1] if against in names]
        start = f"{name:24} " + "".join(f"{share:7.1f}" for share in right)
        lines.append((start + (found[0] if found else "")).rstrip())
        lines.extend(" " * len(start) + more for more in found[1:])
    return "\n".join(lines)


def difference(program, runs, against, name, seeds):
    found = [compared(program, folder(runs, against, seed), folder(runs, name, seed)) for seed in range(1, seeds + 1)]
    mean = statistics.mean(points for points, _ in found)
    half = math.sqrt(sum(half**2 for _, half in found)) / seeds
    each = ", ".join(f"{points:+.1f}" for points, _ in found)
    return f"  {against:24} {each}, {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def score(run):
    return json.loads((run / "report.json").read_text())["eval"]["held_out"]["accuracy"]


def compared(program, against, run):
    """By how many points the second run is better on the held-out questions, and half of the 95 % interval."""
    done = subprocess.run([program, "compare", "--json", against, run], check=True, capture_output=True, text=True)
    held_out = next(found for found in json.loads(done.stdout) if found["set"] == "held_out")
    return 100 * held_out["difference"], 50 * (held_out["high"] - held_out["low"])


if __name__ == "__main__":
    main()
