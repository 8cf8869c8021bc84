"""Pools the states of texts with llama-cpp-python, by the pooling that the model's file asks for, with an adapter or without: an embedding of
each, or with rank pooling the scores of the classes."""

import json
import sys

import llama_cpp

request = json.load(sys.stdin)
model = llama_cpp.Llama(
    model_path=request["model"],
    lora_path=request["adapter"] or None,
    n_ctx=request["context"],
    n_batch=request["context"],
    n_ubatch=request["context"],
    n_threads=request["threads"],
    n_threads_batch=request["threads"],
    embedding=True,
    verbose=False,
)
vectors = []
for text in request["texts"]:
    tokens = model.tokenize(text.encode(), add_bos=True, special=False)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    if llama_cpp.llama_decode(model.ctx, batch) != 0:
        sys.exit(f"llama_decode of {text!r} failed")
    vectors.append(llama_cpp.llama_get_embeddings_seq(model.ctx, 0)[: request["numbers"]])
    llama_cpp.llama_batch_free(batch)
model.close()
json.dump({"version": f"llama-cpp-python {llama_cpp.__version__}", "vectors": vectors}, sys.stdout)
