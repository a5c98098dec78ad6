"""Questions per second of a whole evaluation, beside stock llama.cpp on the same file, the same prompts and the same token budget.

    python3 -m venv venv && venv/bin/pip install numpy llama-cpp-python==0.3.36
    cargo build --release
    venv/bin/python benches/eval_throughput.py checkpoints/proof/student.gguf checkpoints/proof/traces/held_out.jsonl

Ours is `tristill eval`, the whole process: opening, asking, marking, report. llama.cpp decodes as many sequences side by side, a new one
in the place of each that ends, in one cache for all or in one each (--split), whichever is faster there; only the time inside of its library is counted, nothing of Python's and nothing of
loading. Both are greedy. The two take turns, because a machine's speed changes from minute to minute; ratios count. CPU seconds are
given too, which other programs on the machine disturb less.
"""

import argparse
import ctypes
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def questions(path, limit):
    with open(path) as lines:
        return [json.loads(line)["question"] for line in lines][:limit]


def ours(options):
    """Wall and CPU seconds, completion texts and how many tokens they have."""
    with tempfile.TemporaryDirectory() as folder:
        command = [options.program, "eval", options.student, "--set", options.set, "--limit", str(options.limit), "--to", folder,
                   "--max-tokens", str(options.max_tokens), "--threads", str(options.threads)]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        name = pathlib.Path(options.set).name.split(".")[0]
        with open(f"{folder}/eval/{name}/completions.jsonl") as lines:
            said = [json.loads(line) for line in lines][1:]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, [one["text"] for one in said], sum(one["tokens"] for one in said)


def theirs(options):
    """The same, in a process of its own, so that neither side's memory stays while the other runs."""
    command = [sys.executable, __file__, options.student, options.set, "--llama-cpp", "--limit", str(options.limit),
               "--max-tokens", str(options.max_tokens), "--threads", str(options.threads), "--slots", str(options.slots),
               "--batch", str(options.batch), *(["--split"] if options.split else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def run_llama_cpp(options):
    import llama_cpp
    import numpy

    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(options.student.encode(), parameters)
    assert model, "llama.cpp cannot load the file"
    vocab = llama_cpp.llama_model_get_vocab(model)
    words = llama_cpp.llama_vocab_n_tokens(vocab)
    length = llama_cpp.llama_model_n_ctx_train(model)
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = length * options.slots
    parameters.n_batch = parameters.n_ubatch = options.batch
    parameters.n_seq_max = options.slots
    parameters.kv_unified = not options.split
    parameters.n_threads = parameters.n_threads_batch = options.threads
    context = llama_cpp.llama_init_from_model(model, parameters)
    memory = llama_cpp.llama_get_memory(context)

    def tokenize(text):
        raw, room = text.encode(), (ctypes.c_int32 * (len(text.encode()) + 16))()
        return list(room[: llama_cpp.llama_tokenize(vocab, raw, len(raw), room, len(room), False, True)])

    def piece(token):
        room = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_token_to_piece(vocab, token, room, 256, 0, True)
        return room.raw[:length]

    pieces = [piece(token) for token in range(words)]
    ends = [bool(llama_cpp.llama_vocab_is_eog(vocab, token)) for token in range(words)]
    prompts = [tokenize(TEMPLATE.format(question)) for question in questions(options.set, options.limit)]
    # A question that fills the context is asked on neither side.
    prompts = [prompt for prompt in prompts if len(prompt) < length]
    assert max(map(len, prompts)) <= options.batch, "a prompt has to fit into one batch"
    batch = llama_cpp.llama_batch_init(options.batch, 0, 1)
    view = lambda pointer, kind: numpy.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(kind)), (options.batch,))
    tokens, places, wanted = view(batch.token, ctypes.c_int32), view(batch.pos, ctypes.c_int32), view(batch.logits, ctypes.c_int8)
    view(batch.n_seq_id, ctypes.c_int32)[:] = 1

    waiting, running, free = list(range(len(prompts)))[::-1], [], list(range(options.slots))
    answers = [[] for _ in prompts]
    wall = cpu = 0.0
    while waiting or running:
        # One token of each running sequence, then whole prompts as far as the batch goes.
        rows = [(question, slot, place, [token], place) for question, slot, place, token in running]
        room = options.batch - len(rows)
        while waiting and free and len(prompts[waiting[-1]]) <= room:
            question = waiting.pop()
            prompt = prompts[question]
            room -= len(prompt)
            rows.append((question, free.pop(), 0, prompt, len(prompt) - 1))
        at, outputs = 0, []
        for question, slot, start, new, last in rows:
            for offset, token in enumerate(new):
                tokens[at], places[at], wanted[at] = token, start + offset, start + offset == last
                batch.seq_id[at][0] = slot
                at += 1
            outputs.append((question, slot, last))
        batch.n_tokens = at
        started, started_cpu = time.perf_counter(), time.process_time()
        assert llama_cpp.llama_decode(context, batch) == 0
        logits = llama_cpp.llama_get_logits(context)
        wall, cpu = wall + time.perf_counter() - started, cpu + time.process_time() - started_cpu
        chosen = numpy.ctypeslib.as_array(logits, (len(outputs), words)).argmax(1)
        running = []
        for (question, slot, last), token in zip(outputs, chosen.tolist()):
            answers[question].append(token)
            if ends[token] or len(answers[question]) == options.max_tokens or last + 2 >= length:
                llama_cpp.llama_memory_seq_rm(memory, slot, -1, -1)
                free.append(slot)
            else:
                running.append((question, slot, last + 1, token))
    texts = [b"".join(pieces[token] for token in answer if not ends[token]).decode(errors="replace") for answer in answers]
    print(json.dumps([wall, cpu, texts, sum(map(len, answers))]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student")
    parser.add_argument("set", help="JSON lines with a question")
    parser.add_argument("--limit", type=int, default=1319)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--program", default=str(pathlib.Path(__file__).parents[1] / "target/release/tristill"))
    parser.add_argument("--split", action="store_true", help="give each of llama.cpp's sequences a cache of its own")
    parser.add_argument("--llama-cpp", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.llama_cpp:
        return run_llama_cpp(options)
    turns = [(ours(options), theirs(options)) for _ in range(options.turns)]
    one, two = turns[0]
    count = len(one[2])
    same = sum(mine == other for mine, other in zip(one[2], two[2]))
    print(f"{options.student}: {count} questions of {options.set}, {options.threads} threads, {options.slots} sequences, {options.turns} turns")
    print(f"tokens written: tristill {one[3]}, llama.cpp {two[3]}; {same} of {count} texts are the same")
    print("                        tristill  llama.cpp  ratio (lowest to highest)")
    for name, at in [("questions per s", 0), ("questions per CPU s", 1)]:
        speeds = [[count / side[at] for side in turn] for turn in turns]
        ratios = [mine / other for mine, other in speeds]
        medians = [statistics.median(speed[side] for speed in speeds) for side in (0, 1)]
        print(f"{name:22} {medians[0]:9.1f} {medians[1]:10.1f}  {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
