"""Answers a request of proof_test.go with llama-cpp-python and the llama.cpp that it was built with."""

import itertools
import json
import sys

import llama_cpp
import numpy


def losses_of(model, text):
    """Of each token but the first, in nats."""
    tokens = model.tokenize(text.encode(), add_bos=True, special=True)
    model.reset()
    model.eval(tokens)
    rows = model.scores[: len(tokens) - 1].astype("float64")
    top = rows.max(axis=1)
    of_tokens = rows[range(len(rows)), tokens[1:]]
    return (top + numpy.log(numpy.exp(rows - top[:, None]).sum(axis=1)) - of_tokens).tolist()


request = json.load(sys.stdin)
answers, losses = [], {}
for run in request["runs"]:
    model = llama_cpp.Llama(
        model_path=request["model"],
        lora_path=run["adapter"] or None,
        n_ctx=request["context"],
        n_threads=request["threads"],
        n_threads_batch=request["threads"],
        logits_all=bool(request.get("text")),
        verbose=False,
    )
    vocab = llama_cpp.llama_model_get_vocab(model.model)
    for text in request["prompts"]:
        prompt = model.tokenize(text.encode(), add_bos=True, special=True)
        generated = model.generate(prompt, temp=0.0, repeat_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0)
        going = itertools.takewhile(lambda token: not llama_cpp.llama_vocab_is_eog(vocab, token), generated)
        tokens = list(itertools.islice(going, request["tokens"]))
        answers.append({
            "run": run["name"],
            "prompt": prompt,
            "tokens": tokens,
            "text": model.detokenize(tokens).decode(errors="replace"),
        })
    if request.get("text"):
        losses[run["name"]] = losses_of(model, request["text"])
    model.close()
json.dump({"version": f"llama-cpp-python {llama_cpp.__version__}", "answers": answers, "losses": losses}, sys.stdout)
