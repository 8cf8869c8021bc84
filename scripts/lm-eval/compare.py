#!/usr/bin/env python3
"""Answer questions with choices by lm-evaluation-harness and hold `finetune eval --choices` against it.

    finetune eval --model BASE.gguf --data RECORDS.json --choices --samples SAMPLES.jsonl --json > REPORT.json
    compare.py BASE.gguf RECORDS.json SAMPLES.jsonl REPORT.json [SAMPLES.jsonl REPORT.json …]

The harness runs the model in transformers, its weights dequantized from the GGUF to float32, on a task made of the records:
{instruction, input, output, answer} as LLM-Adapters writes them, or {question, choices, answer} with an index. Prompts and
choices are written here once more; tokens, log-likelihoods, acc, acc_norm and standard errors are the harness's.
"""

import json
import pathlib
import sys

import datasets
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM


def main(base, records, *ours):
    docs = [document(r) for r in read(records)]
    ours = [(name, read(name), json.loads(pathlib.Path(report).read_text())) for name, report in zip(ours[::2], ours[1::2], strict=True)]
    result = harness(pathlib.Path(base), docs)
    theirs = [[float(resp[0][0]) for resp in s["resps"]] for s in sorted(result["samples"]["records"], key=lambda s: s["doc_id"])]
    for name, samples, report in ours:
        print(name)
        compare(samples, theirs)
        accuracies(report, result["results"]["records"])


def read(path):
    text = pathlib.Path(path).read_text()
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]


def document(record):
    """Return the prompt, the choices and the index of the right one."""
    if "choices" in record:
        return {"prompt": f"Question: {record['question']}\nAnswer:", "choices": record["choices"], "gold": record["answer"]}
    prompt = f"### Instruction:\n{record['instruction']}\n\n"
    if record["input"]:
        prompt += f"### Input:\n{record['input']}\n\n"
    choices = record["instruction"].split("Answer format: ")[1].split("/")
    lead = record["output"].removesuffix(record["answer"]).strip()
    return {"prompt": f"{prompt}### Response:\n{lead}", "choices": choices, "gold": choices.index(record["answer"])}


def harness(base, docs):
    model = transformers.AutoModelForCausalLM.from_pretrained(base.parent, gguf_file=base.name, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
    task = ConfigurableTask(config={
        "task": "records", "test_split": "test", "output_type": "multiple_choice",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(docs)},
        "doc_to_text": lambda d: d["prompt"], "doc_to_choice": lambda d: d["choices"], "doc_to_target": lambda d: d["gold"],
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")],
    })
    return simple_evaluate(HFLM(model, tokenizer=tokenizer, batch_size=8), tasks=[task], log_samples=True)


def compare(ours, theirs):
    """Print how far the log-likelihoods are apart, and how often the same choice is the likeliest."""
    if len(ours) != len(theirs):
        sys.exit(f"{len(ours)} samples of ours, {len(theirs)} of the harness's")
    apart = [abs(a - b) for o, t in zip(ours, theirs) for a, b in zip(o["log_likelihoods"], t, strict=True)]
    same = sum(best(o["log_likelihoods"]) == best(t) for o, t in zip(ours, theirs))
    print(f"log-likelihoods of {len(apart)} choices: {sum(apart) / len(apart):.4f} apart on average, {max(apart):.4f} at most")
    print(f"the same choice first in {same} of {len(ours)} questions")


def best(x):
    return x.index(max(x))


def accuracies(ours, theirs):
    for name, field in ("acc", "accuracy"), ("acc_norm", "accuracy_norm"):
        print(f"{name:9} harness {theirs[name + ',none']:.4f} ± {theirs[name + '_stderr,none']:.4f}"
              f"   finetune {ours[field]:.4f} ± {ours[field.replace('accuracy', 'stderr')]:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 5 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
