"""How fast and how lean is the trace door, beside the same steps written in Python?

    python3 -m venv venv && venv/bin/pip install datasets==5.2.0 tokenizers==0.23.3 datasketch==2.0.0
    cargo build --release
    TRISTILL_DATA=folder venv/bin/python benches/ingest.py --work /tmp/bench

First a JSONL of traces is made of GSM8K's training set: each row is a real question with other numbers, other names and more steps, so that rows
are different problems. Among them are known numbers of copies, near duplicates (a few words or the punctuation changed, a Jaccard index of
at least 0.9), questions of the test set and wrong answers. Then, in turns, `tristill ingest` and the Python side do the same with the first
`--slice` megabytes: read, verify the answer, look for test questions, drop exact and near duplicates (MinHash, 20 bands of 5), write the chat
template, tokenise, pack rows best-fit, write Parquet. The Python side is Hugging Face `datasets` and `tokenizers` with two processes, and
`datasketch`. At last `tristill ingest` alone takes the whole file, and half of it, for the peak memory. Every planted row must be found.
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
    recent, size, line = collections.deque(maxlen=5000), 0, 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes << 20:
            line += 1
            kind = chance.random()
            if kind < 0.03 and recent:
                row, rule = dict(chance.choice(recent)), "duplicate"
                row["question"] = row["question"].replace(" ", "  ", 1)
            elif kind < 0.08 and recent:
                row, rule = near(chance, recent), "near_duplicate"
            elif kind < 0.09:
                row, rule = other(chance, base, names), "contaminated"
                row["question"] = chance.choice(test)["question"]
            elif kind < 0.11:
                row, rule = other(chance, base, names), "wrong_answer"
                row["reference"] = str(int(row["reference"]) + 1)
            else:
                row, rule = other(chance, base, names), None
                recent.append(row)
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
    """Run a program; its output, its seconds, and the largest memory that it and its children had together."""
    started = time.monotonic()
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TOKENIZERS_PARALLELISM": "true"})
        peak = [0]
        watcher = threading.Thread(target=watch, args=(process, peak))
        watcher.start()
        said, _ = process.communicate()
    seconds = time.monotonic() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed:\n{pathlib.Path(log).read_text()[-2000:]}")
    return said, seconds, peak[0]


def watch(process, peak):
    page = os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        parents, memory = {}, {}
        for folder in pathlib.Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    memory[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * page
                except (OSError, IndexError):
                    pass
        family, total = [process.pid], 0
        while family:
            member = family.pop()
            total += memory.get(member, 0)
            family += [child for child, parent in parents.items() if parent == member]
        peak[0] = max(peak[0], total)
        time.sleep(0.1)


def ours(program, path, data, tokenizer, folder, log):
    """One ingest into a fresh folder; seconds, peak memory, the card and the manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "bench.toml"
    config.write_text(
        f'[data]\nsources = [{{ path = "{path}" }}]\ntokenizer = "{tokenizer}"\n'
        f"[model]\nwidth = 256\nlayers = 1\nheads = 4\nfeed_forward = 256\ncontext = {CONTEXT}\n[train]\nsteps = 1\nrate = 1e-3\n"
        f'[eval]\nsets = [{{ name = "gsm8k_test", path = "{data}/gsm8k/test.jsonl.gz" }}]\n'
    )
    _, seconds, peak = run([program, "ingest", str(config), "--run", str(folder / "run")], log)
    dataset = folder / "run/dataset"
    return seconds, peak, *(json.loads((dataset / name).read_text()) for name in ("card.json", "manifest.json"))


def check(dropped_path, planted, limit):
    """Every planted row up to a line is dropped by its rule, and no other row by any of them; how many of each."""
    import pyarrow.parquet

    dropped = pyarrow.parquet.read_table(dropped_path, columns=["line", "rule"]).to_pylist()
    found = collections.defaultdict(set)
    for row in dropped:
        found[row["rule"]].add(row["line"])
    counts = {}
    for rule, lines in planted.items():
        expected = {line for line in lines if line <= limit}
        missing, more = expected - found[rule], found[rule] - expected
        counts[rule] = {"planted": len(expected), "missing": len(missing), "more": len(more)}
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder for the files, which take about five times --megabytes")
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TRISTILL_DATA"))
    parser.add_argument("--program", default="target/release/tristill")
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--slice", type=int, default=128, help="megabytes that both sides take")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--python-side", nargs=3, metavar=("TRACES", "TOKENIZER", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = pathlib.Path(arguments.data)
    if arguments.python_side:
        path, tokenizer, out = map(pathlib.Path, arguments.python_side)
        return python_side(path, data, tokenizer, out)

    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = data / "tokenizers/minimind_tokenizer.json"
    path, planted_path = make(work, data, arguments.megabytes)
    planted = json.loads(planted_path.read_text())["planted"]
    part = head(path, arguments.slice)
    slice_mb = part.stat().st_size / 1e6
    results = {"tristill": [], "python": []}
    for turn in range(arguments.turns):
        seconds, peak, card, manifest = ours(arguments.program, part, data, tokenizer, work / "ours", work / "ours.log")
        lines = card["sources"][0]["rows"]
        results["tristill"].append((seconds, peak))
        print(f"turn {turn + 1}: tristill {seconds:.1f} s, {slice_mb / seconds:.1f} MB/s, {lines / seconds:.0f} rows/s, peak {peak >> 20} MiB")
        if turn == 0:
            print("  rows dropped as planted:", check(work / "ours/run/dataset/dropped.parquet", planted, lines))
        out = work / "python"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        command = [sys.executable, __file__, "--work", str(work), "--data", str(data), "--python-side", str(part), str(tokenizer), str(out)]
        said, seconds, peak = run(command, work / "python.log")
        facts = json.loads(said.splitlines()[-1])
        results["python"].append((seconds, peak))
        print(
            f"turn {turn + 1}: Python   {seconds:.1f} s, {slice_mb / seconds:.1f} MB/s, {lines / seconds:.0f} rows/s, peak {peak >> 20} MiB, "
            f"of which tokenising {facts['tokenising_s']:.1f} s"
        )
        if turn == 0:
            of_python, missed = set(facts["near"]), planted["near_duplicate"]
            print(f"  Python drops {facts['counts']}, keeps {facts['kept']} in {facts['rows']} rows; tristill keeps {card['sources'][0]['kept']} in {manifest['rows']}")
            print(f"  planted near duplicates that Python misses: {len({line for line in missed if line <= lines} - of_python)}")
    if arguments.turns:
        medians = {side: statistics.median(seconds for seconds, _ in of) for side, of in results.items()}
        print(f"median of {arguments.turns}: tristill is {medians['python'] / medians['tristill']:.1f} times as fast on {slice_mb:.0f} MB")
    for megabytes in (arguments.megabytes // 2, arguments.megabytes):
        whole = head(path, megabytes) if megabytes < arguments.megabytes else path
        size = whole.stat().st_size / 1e6
        seconds, peak, card, manifest = ours(arguments.program, whole, data, tokenizer, work / "ours", work / "ours.log")
        rows = card["sources"][0]["rows"]
        print(f"tristill alone, {size:.0f} MB: {seconds:.1f} s, {size / seconds:.1f} MB/s, {rows / seconds:.0f} rows/s, peak {peak >> 20} MiB, {manifest['tokens']} tokens")
        print("  rows dropped as planted:", check(work / "ours/run/dataset/dropped.parquet", planted, rows))


if __name__ == "__main__":
    main()
