#!/usr/bin/env python3
"""Time training steps of a LoRA and a classifier over a BERT by transformers, PEFT and PyTorch in float32, on texts that fill a sequence each, as
`finetune bench --model BERT.gguf --ctx 128 --batch 64 --method lora` does.

    peft_speed.py --model BERT.gguf [--ctx 128] [--batch 64] [--rank 8] [--repeat 5] [--threads 1]
"""

import argparse
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

import peft_run


def main(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    encoder, _ = peft_run.load(a.model)
    model = peft_run.Classifier(encoder, 2)
    model.encoder = get_peft_model(encoder, LoraConfig(r=a.rank, lora_alpha=2 * a.rank, lora_dropout=0.0, target_modules=peft_run.ADAPTED))
    tokens = torch.randint(0, encoder.config.vocab_size, (a.batch, a.ctx))
    mask, labels = torch.ones_like(tokens), torch.arange(a.batch) % 2
    clock, busy = [], []
    for step in range(a.repeat + 1):
        began, processor = time.monotonic(), time.process_time()
        model.zero_grad()
        F.cross_entropy(model(tokens, mask), labels).backward()
        if step:
            clock.append(time.monotonic() - began)
            busy.append(time.process_time() - processor)
    tokens_a_step = a.batch * a.ctx
    print(f"{tokens_a_step / statistics.median(clock):.1f} tokens/s, {statistics.median(busy):.3f} processor seconds a step, "
          f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    for name, usual in (("ctx", 128), ("batch", 64), ("rank", 8), ("repeat", 5), ("threads", 1)):
        p.add_argument("--" + name, type=int, default=usual)
    main(p.parse_args())
