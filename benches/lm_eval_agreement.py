"""Holds our readings and prompts of lm-evaluation-harness against the real one, on real completions and without any hub.

    pip install lm_eval==0.4.13
    TRISTILL_DATA=<folder of the data sets> python benches/lm_eval_agreement.py

Reads gsm8k/{train,test,example_model_solutions}.jsonl.gz and zeroeval/*.jsonl.gz, and adds noise made of the marks that the patterns
look for. Every extracted string, every score and every prompt must be equal; the exit status says so.
"""

import functools
import glob
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile

import lm_eval
import yaml
from lm_eval import utils
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.filters.extraction import RegexFilter

DATA = os.environ["TRISTILL_DATA"]
TASKS = ["gsm8k", "gsm8k-cot", "gsm8k-cot-zeroshot"]


def rows(name):
    with gzip.open(os.path.join(DATA, name), "rt") as lines:
        return [json.loads(line) for line in lines]


def configuration(task):
    with open(os.path.join(os.path.dirname(lm_eval.__file__), "tasks", "gsm8k", task + ".yaml")) as file:
        return yaml.safe_load(file)


def completions(gold):
    """Real completions with the set's answer, as they are and with the marks that the strict patterns want."""
    models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    for row, answer in zip(rows("gsm8k/example_model_solutions.jsonl.gz"), gold):
        for model in models:
            solution = row[model]["solution"]
            yield solution, answer
            yield solution.replace("\nA: ", "\n#### "), answer
            yield solution.replace("\nA: ", "\nThe answer is ") + ".", answer
    for path in sorted(glob.glob(os.path.join(DATA, "zeroeval", "*.jsonl.gz"))):
        for row, answer in zip(rows(path), gold):
            yield row["output"][0], answer


def noise(count, seed=7):
    draw = random.Random(seed)
    pieces = ["#### ", "####", "The answer is ", "-", "$", ".", ",", "1", "23", "4.5", "0", "\n", " ", "a", "Ⅷ", "٣", "\0", "é", "A"]
    for _ in range(count):
        completion = "".join(draw.choice(pieces) for _ in range(draw.randint(0, 12)))
        answer = "x\n#### " + draw.choice(["1", "23", "1,234", "4.5", "-1", "1.", "".join(draw.choice(pieces) for _ in range(4))])
        yield completion, answer


def ours(arguments, text=None):
    command = ["cargo", "run", "--release", "--quiet", "-p", "tristill-task", "--example", "harness_view", "--", *arguments]
    # Only line feeds end a line: completions hold other separators.
    output = subprocess.run(command, input=text, capture_output=True, check=True, encoding="utf-8").stdout
    return [json.loads(line) for line in output.split("\n") if line]


def check_readings(cases):
    mine = ours(["readings"], "".join(json.dumps({"completion": c, "answer": a}) + "\n" for c, a in cases))
    template = functools.lru_cache(utils.env.from_string)
    compared = differ = 0
    for index, task in enumerate(map(configuration, TASKS)):
        metric = task["metric_list"][0]
        options = {key: metric[key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}
        for pipeline in task["filter_list"]:
            key = pipeline["name"].split("-")[0]
            regex = RegexFilter(**{name: value for name, value in pipeline["filter"][0].items() if name != "function"})
            extracted = regex.apply([[completion] for completion, _ in cases], [{}] * len(cases))
            for (completion, answer), [theirs], reading in zip(cases, extracted, mine, strict=True):
                target = template(task["doc_to_target"]).render(answer=answer, question="")
                right = bool(exact_match_hf_evaluate([theirs], [target], **options)["exact_match"])
                compared += 1
                if (theirs, right) != (reading[index][key], reading[index][key + "_right"]):
                    differ += 1
                    if differ <= 10:
                        print(task["task"], key, repr(completion[-80:]), repr(answer[-20:]), (theirs, right), reading[index])
    print(f"readings: {compared} of {len(cases)} completions compared, {differ} differ")
    return differ


def check_prompts():
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for split in ("train", "test"):
            files[split] = os.path.join(folder, split + ".json")
            with open(files[split], "w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows(f"gsm8k/{split}.jsonl.gz"))
        mine = ours(["prompts", *(os.path.join(DATA, "gsm8k", split + ".jsonl.gz") for split in ("test", "train"))])
        compared = differ = 0
        for style, name, shots in [("gsm8k", "gsm8k", 5), ("gsm8k_zeroshot", "gsm8k", 0), ("gsm8k_cot", "gsm8k-cot", 8),
                                   ("gsm8k_cot_zeroshot", "gsm8k-cot-zeroshot", 0)]:
            config = configuration(name)
            config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": files})
            task = ConfigurableTask(config=config)
            task.set_fewshot_seed(seed=1234)
            prompts = [prompt for prompt in mine if prompt["style"] == style]
            for doc, prompt in zip(task.test_docs(), prompts, strict=True):
                compared += 1
                theirs = task.fewshot_context(doc, num_fewshot=shots)
                if theirs != prompt["text"] or config["generation_kwargs"]["until"] != prompt["stop"]:
                    differ += 1
                    if differ <= 3:
                        print(style, repr(theirs[:300]), repr(prompt["text"][:300]))
        print(f"prompts: {compared} compared, {differ} differ")
        return differ


def main():
    gold = [row["answer"] for row in rows("gsm8k/test.jsonl.gz")]
    real = list(completions(gold))
    differ = check_readings(real) + check_readings(list(noise(20000))) + check_prompts()
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
