#!/usr/bin/env python3
"""Train a LoRA and a classifier over a BERT's pooled states by transformers, PEFT and PyTorch in float32, from the same GGUF that finetune reads,
and print what it does on held-out texts as a line of JSON.

    peft_run.py --model BERT.gguf --train TRAIN.jsonl --dev DEV.jsonl --rank 8 --lr 1e-3 --epochs 3 --batch 45 --seed 1
"""

import argparse
import json
import sys

import gguf
import numpy
import peft
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel

TENSORS = {
    "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
}
EMBEDDINGS = {
    "token_embd.weight": "embeddings.word_embeddings.weight", "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight", "token_embd_norm.weight": "embeddings.LayerNorm.weight",
    "token_embd_norm.bias": "embeddings.LayerNorm.bias",
}
ADAPTED = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def load(path):
    """The model and its tokenizer."""
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    tensors = {t.name: torch.from_numpy(gguf.dequantize(t.data, t.tensor_type).astype(numpy.float32)) for t in reader.tensors}
    words = tensors["token_embd.weight"]
    model = BertModel(BertConfig(
        vocab_size=words.shape[0], hidden_size=words.shape[1], num_hidden_layers=field("bert.block_count"),
        num_attention_heads=field("bert.attention.head_count"), intermediate_size=field("bert.feed_forward_length"),
        max_position_embeddings=tensors["position_embd.weight"].shape[0], type_vocab_size=tensors["token_types.weight"].reshape(-1, words.shape[1]).shape[0],
        layer_norm_eps=field("bert.attention.layer_norm_epsilon"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    ), add_pooling_layer=False)
    state = {}
    for name, values in tensors.items():
        if name in EMBEDDINGS:
            state[EMBEDDINGS[name]] = values
        else:
            _, layer, tensor, kind = name.split(".")
            state[f"encoder.layer.{layer}.{TENSORS[tensor]}.{kind}"] = values
    own = model.state_dict()
    model.load_state_dict({name: values.reshape(own[name].shape) for name, values in state.items()} | {k: v for k, v in own.items() if k.endswith("position_ids")})

    # llama.cpp marks the beginnings of words, WordPiece what goes on in one.
    vocabulary = {}
    for i, (token, kind) in enumerate(zip(field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type"))):
        if kind == gguf.TokenType.NORMAL:
            token = token[1:] if token.startswith("\u2581") else "##" + token
        vocabulary[token] = i
    t = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    t.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    t.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[(s, vocabulary[s]) for s in ("[CLS]", "[SEP]")])
    return model, t


class Classifier(torch.nn.Module):
    """A linear classifier over the mean of a text's states."""

    def __init__(self, encoder, classes):
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.config.hidden_size, classes)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, tokens, mask):
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return self.head((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def batch_of(texts):
    longest = max(len(t) for t in texts)
    tokens = torch.tensor([t + [0] * (longest - len(t)) for t in texts])
    return tokens, torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts])


def measure(model, texts, labels, batch):
    """Accuracy, Matthews correlation of any number of classes, and loss."""
    with torch.no_grad():
        scores = torch.cat([model(*batch_of(texts[i : i + batch])) for i in range(0, len(texts), batch)])
    right, found = torch.tensor(labels), scores.argmax(1)
    table = torch.zeros(scores.shape[1], scores.shape[1], dtype=torch.float64)
    for r, f in zip(right, found):
        table[r, f] += 1
    n, hits, there, guessed = table.sum(), table.trace(), table.sum(1), table.sum(0)
    below = torch.sqrt((n * n - (there * there).sum()) * (n * n - (guessed * guessed).sum()))
    matthews = ((hits * n - (there * guessed).sum()) / below).item() if below else 0.0
    return {"accuracy": (hits / n).item(), "matthews": matthews, "loss": F.cross_entropy(scores, right).item()}


def main(a):
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    encoder, tokenizer = load(a.model)
    read = lambda path: [json.loads(line) for line in open(path, encoding="utf-8")]
    train, dev = read(a.train), read(a.dev)
    names = sorted({r["label"] for r in train})
    tokens = lambda records: [e.ids for e in tokenizer.encode_batch([r["text"] for r in records])]
    classes = lambda records: [names.index(r["label"]) for r in records]
    texts, labels = tokens(train), classes(train)

    model = Classifier(encoder, len(names))
    model.encoder = get_peft_model(encoder, LoraConfig(r=a.rank, lora_alpha=2 * a.rank, lora_dropout=0.0, target_modules=ADAPTED))
    factors = [p for p in model.encoder.parameters() if p.requires_grad]
    groups = [{"params": factors, "lr": a.lr}, {"params": list(model.head.parameters()), "lr": a.lr * a.head_lr}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    steps = a.epochs * -(-len(texts) // a.batch)
    warm = max(1, round(steps * 0.1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min((k + 1) / warm, (steps - k) / max(1, steps - warm)))
    for _ in range(a.epochs):
        order = torch.randperm(len(texts)).tolist()
        for i in range(0, len(order), a.batch):
            drawn = order[i : i + a.batch]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(*batch_of([texts[k] for k in drawn])), torch.tensor([labels[k] for k in drawn]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*factors, *model.head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
    result = measure(model.eval(), tokens(dev), classes(dev), a.batch)
    print(json.dumps(result | {"versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"}))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    for name in ("model", "train", "dev"):
        p.add_argument("--" + name, required=True)
    for name, kind, usual in (("rank", int, 8), ("lr", float, 1e-3), ("head-lr", float, 1.0), ("epochs", int, 3), ("batch", int, 45), ("seed", int, 1)):
        p.add_argument("--" + name, type=kind, default=usual)
    sys.exit(main(p.parse_args()))
