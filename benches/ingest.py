"""How fast and how lean is the trace door, beside the same steps written in Python?

    python3 -m venv venv && venv/bin/pip install datasets==5.2.0 tokenizers==0.23.3 datasketch==2.0.0
    cargo build --release
    TRISTILL_DATA=folder venv/bin/python benches/ingest.py --work /tmp/bench

First a JSONL of traces is made of GSM8K's training set: each row is a real question with other numbers, other names and more steps, so that rows
are different problems. Among them are known numbers of copies, near duplicates (a few words or the punctuation changed, a Jaccard index of
at least 0.9), questions of the test set and wrong answers. Then four parts: `tristill ingest` and the Python side do the same in turns
with the first `--slice` megabytes: read, verify the answer, look for test questions, drop exact and near duplicates (MinHash, 20 bands of 5),
write the chat template, tokenise, pack rows best-fit, write Parquet; the Python side is Hugging Face `datasets` and `tokenizers` with two
processes, and `datasketch`. The stage of the ingest that makes tokens, beside the tokenizers crate alone on all cores. `tristill ingest` with
half of the file, and with the whole, for the peak memory. Every planted row must be found, and no other.
"""

import argparse
import bisect
import collections
import fractions
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

CONTEXT = 1024
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PARTS = ["beside", "tokenising", "half", "whole"]
RULES = ("duplicate", "near_duplicate", "contaminated", "wrong_answer")
WORD = re.compile(r"[^\W_]+")
NUMBER = re.compile(r"\d+")
NAME = re.compile(r"\b[A-Z][a-z]{2,}\b")
SPAN = re.compile(r"<<[^>]*>>")


def words(text):
    """Words as the door compares them."""
    return WORD.findall(text.lower().replace("'", "").replace("’", "").replace("`", ""))


def phrases(text_words, length):
    return {" ".join(text_words[at : at + length]) for at in range(len(text_words) - length + 1)}


def jaccard(one, other):
    return len(one & other) / len(one | other)


def rows_of(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# ---- the file of traces ----


def make(folder, data, megabytes):
    """Write traces.jsonl and the numbers of the planted lines."""
    path, planted_path = folder / f"traces-{megabytes}.jsonl", folder / f"planted-{megabytes}.json"
    if planted_path.exists():
        return path, planted_path
    chance = random.Random(1)
    test = rows_of(data / "gsm8k/test.jsonl.gz")
    long_phrases = set().union(*(phrases(words(row["question"]), 8) for row in test))
    base = [row for row in rows_of(data / "gsm8k/train.jsonl.gz") if not phrases(words(row["question"]), 8) & long_phrases]
    syllables = [a + b for a in "BDFGKLMNPRSTVZ" for b in ("a", "e", "i", "o", "u", "an", "or", "il")]
    names = ["".join(chance.sample(syllables, 2)).capitalize() for _ in range(2000)]
    planted = {rule: [] for rule in RULES}
    nears = set()
    originals, size, line = [], 0, 0  # a sample of the whole file so far, so that copies stand near and far
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes << 20:
            line += 1
            kind = chance.random()
            if kind < 0.03 and originals:
                row, rule = dict(chance.choice(originals)), "duplicate"
                row["question"] = row["question"].replace(" ", "  ", 1)
            elif kind < 0.08 and originals:
                row = near(chance, originals)
                text = " ".join((row["question"] + "\n" + row["answer"]).split())
                # Two of one original may come out alike.
                rule = "duplicate" if text in nears else "near_duplicate"
                nears.add(text)
            elif kind < 0.09:
                row, rule = other(chance, base, names), "contaminated"
                row["question"] = chance.choice(test)["question"]
            elif kind < 0.11:
                row, rule = other(chance, base, names), "wrong_answer"
                row["reference"] = str(int(row["reference"]) + 1)
            else:
                row, rule = other(chance, base, names), None
                if len(originals) < 20_000:
                    originals.append(row)
                elif (place := chance.randrange(line)) < 20_000:
                    originals[place] = row
            row["id"] = line
            if rule:
                planted[rule].append(line)
            text = json.dumps(row, ensure_ascii=False)
            file.write(text + "\n")
            size += len(text) + 1
    planted_path.write_text(json.dumps({"rows": line, "planted": planted}))
    return path, planted_path


def other(chance, base, names):
    """Another problem: a real one with other numbers and names, and the steps of two more."""
    first, *more = chance.sample(base, 3)

    def changed(text):
        called = {}
        text = NAME.sub(lambda found: called.setdefault(found[0], chance.choice(names)) if found.start() else found[0], text)
        return NUMBER.sub(lambda found: str(chance.randrange(2, 1000)), text)

    steps = [row["answer"].rsplit("####", 1)[0].strip() for row in (first, *more)]
    answer = str(chance.randrange(1, 100000))
    return {"question": changed(first["question"]), "answer": changed("\n".join(steps)) + f"\n#### {answer}", "reference": answer}


def near(chance, rows):
    """Almost the same as one of some rows: numbers stay, a word or the punctuation does not."""
    while True:
        row = chance.choice(rows)
        question, answer = row["question"], row["answer"]
        if chance.random() < 0.5:
            question = question.replace(",", " ,").replace(".", " .")
        places = list(re.finditer(r"\b[a-z]{3,}\b", answer.rsplit("####", 1)[0]))
        for found in chance.sample(places, min(len(places), chance.choice((1, 1, 2)))):
            answer = answer[: found.start()] + "x" * len(found[0]) + answer[found.end() :]
        of = lambda question, answer: phrases(words(question + " " + SPAN.sub("", answer)), 5)
        if answer != row["answer"] and jaccard(of(row["question"], row["answer"]), of(question, answer)) >= 0.9:
            return {"question": question, "answer": answer, "reference": row["reference"]}


def head(path, megabytes):
    """The first megabytes of a file, in whole lines."""
    part = path.with_name(f"head-{megabytes}.jsonl")
    if not part.exists():
        with open(path, "rb") as source, open(part, "wb") as file:
            while file.tell() < megabytes << 20:
                file.write(source.readline())
    return part


# ---- the Python side ----


class Contamination:
    def __init__(self, data):
        self.whole, self.long, self.short = set(), set(), collections.defaultdict(list)
        self.inside, self.counts = collections.defaultdict(set), []
        for at, row in enumerate(rows_of(data / "gsm8k/test.jsonl.gz")):
            of = words(row["question"])
            self.whole.add(" ".join(of))
            self.long |= phrases(of, 13)
            if 6 <= len(of) < 13:
                self.inside[len(of)].add(" ".join(of))
            short = phrases(of, 8)
            self.counts.append(len(short))
            for phrase in short:
                self.short[phrase].append(at)

    def hit(self, of):
        if " ".join(of) in self.whole or not phrases(of, 13).isdisjoint(self.long):
            return True
        if any(not phrases(of, length).isdisjoint(known) for length, known in self.inside.items()):
            return True
        found = collections.Counter(at for phrase in phrases(of, 8) for at in self.short.get(phrase, ()))
        return any(2 * count >= self.counts[at] for at, count in found.items())


def python_side(path, data, tokenizer_path, out):
    import datasets
    import datasketch
    import numpy
    from tokenizers import Tokenizer

    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = out / "cache"
    contamination, tokenizer = Contamination(data), Tokenizer.from_file(str(tokenizer_path))
    end = tokenizer.token_to_id("<|im_end|>")
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(out / "cache"))

    def judge(batch):
        judged = collections.defaultdict(list)
        for question, answer, reference in zip(batch["question"], batch["answer"], batch["reference"]):
            steps, said = (part.strip() for part in SPAN.sub("", answer).rsplit("####", 1))
            of_question = words(question)
            rule = ""
            if contamination.hit(of_question):
                rule = "contaminated"
            elif fractions.Fraction(said.replace(",", "")) != fractions.Fraction(reference):
                rule = "wrong_answer"
            text = of_question + words(steps) + words(said)
            numbers = " ".join(word for word in of_question if word.isdigit()) + "|" + said
            minhash = datasketch.MinHash(num_perm=100)
            minhash.update_batch([(numbers + phrase).encode() for phrase in phrases(text, 5)])
            judged["rule"].append(rule)
            judged["completion"].append(f"<think>\n{steps}\n</think>\n\n#### {said}")
            judged["numbers"].append(numbers)
            judged["identity"].append(" ".join((question + "\n" + steps + "\n" + said).lower().split()))
            judged["minhash"].append(minhash.hashvalues.astype(numpy.int64))
        return judged

    rows = rows.map(judge, batched=True, num_proc=2, remove_columns=["answer", "reference"])
    counts = collections.Counter(rows["rule"])
    lsh, seen, keep = datasketch.MinHashLSH(num_perm=100, params=(20, 5)), set(), []
    lines = {"duplicate": [], "near_duplicate": []}
    texts = lambda at: phrases(words(rows[at]["question"]) + words(rows[at]["completion"][8:].replace("</think>", "")), 5)
    for at, row in enumerate(rows.with_format("numpy", columns=["minhash"], output_all_columns=True)):
        if row["rule"]:
            continue
        if row["identity"] in seen:
            lines["duplicate"].append(at + 1)
            continue
        seen.add(row["identity"])
        minhash = datasketch.MinHash(hashvalues=row["minhash"].astype(numpy.uint32), scheme="affine32")
        candidates = lsh.query(minhash)
        if candidates and any(jaccard(texts(at), texts(other)) >= 0.85 for other in candidates):
            lines["near_duplicate"].append(at + 1)
            continue
        lsh.insert(at, minhash, check_duplication=False)
        keep.append(at)
    for rule, dropped in lines.items():
        counts[rule] = len(dropped)
    rows = rows.select(keep).select_columns(["question", "completion"])

    def tokenise(batch):
        prompts = tokenizer.encode_batch([CHATML.format(question) for question in batch["question"]], add_special_tokens=False)
        completions = tokenizer.encode_batch(batch["completion"], add_special_tokens=False)
        tokens = [prompt.ids + completion.ids + [end] for prompt, completion in zip(prompts, completions)]
        return {"tokens": tokens, "prompt": [len(prompt.ids) for prompt in prompts], "length": [len(of) for of in tokens]}

    started = time.monotonic()
    rows = rows.map(tokenise, batched=True, num_proc=2, remove_columns=["question", "completion"])
    tokenising_s = time.monotonic() - started
    rows = rows.filter(lambda lengths: [length <= CONTEXT for length in lengths], input_columns="length", batched=True)
    packed = []
    for first in range(0, len(rows), 1 << 16):
        lengths = rows[first : first + (1 << 16)]["length"]
        packed += [[first + at for at in row] for row in best_fit(lengths, CONTEXT)]

    def join():
        for row in packed:
            documents = rows[row]
            lengths = documents["length"]
            yield {"tokens": [token for tokens in documents["tokens"] for token in tokens], "documents": lengths, "prompts": documents["prompt"]}

    datasets.Dataset.from_generator(join, cache_dir=str(out / "cache")).to_parquet(str(out / "rows.parquet"))
    print(json.dumps({"counts": counts, "kept": len(rows), "rows": len(packed), "tokenising_s": tokenising_s, "near": lines["near_duplicate"]}))


def tokenising_side(path, tokenizer_path):
    """The tokenizers crate alone, on all cores, with the texts in memory."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    texts = []
    with open(path, encoding="utf-8") as file:
        for row in map(json.loads, file):
            steps, said = (part.strip() for part in SPAN.sub("", row["answer"]).rsplit("####", 1))
            texts += [CHATML.format(row["question"]), f"<think>\n{steps}\n</think>\n\n#### {said}"]
    started, tokens = time.monotonic(), 0
    for first in range(0, len(texts), 10_000):
        tokens += sum(map(len, tokenizer.encode_batch_fast(texts[first : first + 10_000], add_special_tokens=False)))
    print(json.dumps({"tokens": tokens, "seconds": time.monotonic() - started}))


def best_fit(lengths, capacity):
    """Rows of whole documents, the longest first, each where the least room is left."""
    rows, rooms = [], []  # rooms: (room, row), sorted
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        place = bisect.bisect_left(rooms, (lengths[at], -1))
        if place == len(rooms):
            rows.append([at])
            room, row = capacity, len(rows) - 1
        else:
            room, row = rooms.pop(place)
            rows[row].append(at)
        if room > lengths[at]:
            bisect.insort(rooms, (room - lengths[at], row))
    return rows


# ---- the runs ----


def run(command, log):
    """Run a program; its output, its wall seconds, its CPU seconds, and the largest memory that it and its children had together."""
    started, peak, over = time.monotonic(), [0], threading.Event()
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TOKENIZERS_PARALLELISM": "true"})
        watcher = threading.Thread(target=watch, args=(process.pid, peak, over))
        watcher.start()
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    over.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed:\n{pathlib.Path(log).read_text()[-2000:]}")
    return said, seconds, usage.ru_utime + usage.ru_stime, max(peak[0], usage.ru_maxrss << 10)


def watch(pid, peak, over):
    page = os.sysconf("SC_PAGE_SIZE")
    while not over.wait(0.1):
        parents, memory = {}, {}
        for folder in pathlib.Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    memory[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * page
                except (OSError, IndexError):
                    pass
        family, total = [pid], 0
        while family:
            member = family.pop()
            total += memory.get(member, 0)
            family += [child for child, parent in parents.items() if parent == member]
        peak[0] = max(peak[0], total)


class Bench:
    """What all runs have in common."""

    def __init__(self, arguments):
        self.program, self.data, self.work = arguments.program, pathlib.Path(arguments.data), arguments.work
        self.tokenizer = self.data / "tokenizers/minimind_tokenizer.json"
        self.work.mkdir(parents=True, exist_ok=True)
        self.path, planted_path = make(self.work, self.data, arguments.megabytes)
        self.planted = json.loads(planted_path.read_text())["planted"]

    def ours(self, path):
        """One ingest into a fresh folder, said in a line; its seconds, those of each stage, and the manifest."""
        folder, log = self.work / "ours", self.work / "ours.log"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = folder / "bench.toml"
        config.write_text(
            f'[data]\nsources = [{{ path = "{path}" }}]\ntokenizer = "{self.tokenizer}"\n'
            f"[model]\nwidth = 256\nlayers = 1\nheads = 4\nfeed_forward = 256\ncontext = {CONTEXT}\n[train]\nsteps = 1\nrows = 1\nrate = 1e-3\n"
            f'[eval]\nsets = [{{ name = "gsm8k_test", path = "{self.data}/gsm8k/test.jsonl.gz" }}]\n'
        )
        _, seconds, cpu, peak = run([self.program, "ingest", str(config), "--run", str(folder / "run")], log)
        card, manifest = (json.loads((folder / "run/dataset" / name).read_text()) for name in ("card.json", "manifest.json"))
        flow = card["sources"][0]
        line = log.read_text().split("   seconds ")[1].splitlines()[0]
        stages = {name: float(value) for name, value in (stage.split() for stage in line.split(", "))}
        print(say("tristill", path, flow["rows"], seconds, cpu, peak), f"({line}); keeps {flow['kept']} in {manifest['rows']} rows")
        print("  planted, missed, dropped beyond that:", check(folder / "run/dataset/dropped.parquet", self.planted, flow["rows"]))
        return seconds, stages, manifest

    def python(self, path):
        """The same in Python; its seconds."""
        out, log = self.work / "python", self.work / "python.log"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        said, seconds, cpu, peak = run(self.side("--python-side", path, out), log)
        facts = json.loads(said.splitlines()[-1])
        rows = sum(facts["counts"].values()) - facts["counts"]["duplicate"] - facts["counts"]["near_duplicate"]
        missed = {line for line in self.planted["near_duplicate"] if line <= rows} - set(facts["near"])
        print(say("Python", path, rows, seconds, cpu, peak), f"(tokenising {facts['tokenising_s']:.1f}); keeps {facts['kept']} in {facts['rows']} rows")
        print(f"  near duplicates missed: {len(missed)}")
        return seconds

    def side(self, flag, path, out):
        return [sys.executable, __file__, "--work", str(self.work), "--data", str(self.data), flag, str(path), str(self.tokenizer), str(out)]

    def beside(self, part, turns):
        """Both sides in turns on the first megabytes."""
        seconds = [(self.ours(part)[0], self.python(part)) for _ in range(turns)]
        ours, python = (statistics.median(of) for of in zip(*seconds))
        print(f"median of {turns}: tristill is {python / ours:.1f} times as fast")

    def tokenising(self, part, turns):
        """The stage of the ingest that makes tokens of texts, which also reads the traces and writes the tokens, beside the tokenizers crate alone."""
        speeds = []
        for _ in range(turns):
            _, stages, manifest = self.ours(part)
            said, *_ = run(self.side("--tokenising-side", part, self.work), self.work / "python.log")
            facts = json.loads(said)
            speeds.append((manifest["tokens"] / stages["tokens"] / 1e6, facts["tokens"] / facts["seconds"] / 1e6))
            print(f"tokens/s: ingest {speeds[-1][0]:.2f} million, the crate {speeds[-1][1]:.2f} million")
        ours, crate = (statistics.median(of) for of in zip(*speeds))
        print(f"median of {turns}: the stage is {ours / crate:.2f} times as fast as the crate")


def say(who, path, rows, seconds, cpu, peak):
    size = path.stat().st_size / 1e6
    return f"{who:8} {size:.0f} MB: {seconds:.1f} s, {size / seconds:.1f} MB/s, {rows / seconds:.0f} rows/s, {cpu:.1f} s of CPU, peak {peak >> 20} MiB"


def check(dropped_path, planted, limit):
    """Every planted row up to a line is dropped by its rule, and no other row by any of them; how many of each."""
    import pyarrow.parquet

    dropped = pyarrow.parquet.read_table(dropped_path, columns=["line", "rule"])
    found = collections.defaultdict(set)
    for line, rule in zip(dropped["line"].to_pylist(), dropped["rule"].to_pylist()):
        found[rule].add(line)
    counts = {}
    for rule, lines in planted.items():
        expected = {line for line in lines if line <= limit}
        counts[rule] = len(expected), len(expected - found[rule]), len(found[rule] - expected)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder for the files, which take about five times --megabytes")
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TRISTILL_DATA"))
    parser.add_argument("--program", default="target/release/tristill")
    parser.add_argument("--megabytes", type=int, default=4096, help="of the whole file")
    parser.add_argument("--slice", type=int, default=64, help="megabytes that both sides take")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="the parts to run")
    for side in ("--python-side", "--tokenising-side"):
        parser.add_argument(side, nargs=3, type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.python_side:
        return python_side(arguments.python_side[0], pathlib.Path(arguments.data), *arguments.python_side[1:])
    if arguments.tokenising_side:
        return tokenising_side(*arguments.tokenising_side[:2])
    bench = Bench(arguments)
    part = head(bench.path, arguments.slice)
    half = head(bench.path, arguments.megabytes // 2)
    for name in arguments.only:
        match name:
            case "beside":
                bench.beside(part, arguments.turns)
            case "tokenising":
                bench.tokenising(part, arguments.turns)
            case "half":
                bench.ours(half)
            case "whole":
                bench.ours(bench.path)


if __name__ == "__main__":
    main()
