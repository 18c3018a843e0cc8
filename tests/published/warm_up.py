"""`python -m tests.published.warm_up MODEL OUT SETTINGS`: teach a model word problems, and say what it cost and gave.

One process a training, so that its peak of memory is its own. Prints one JSON object as its last line. With
`response_tokens` among the settings the held-out problems are answered, too, before and after.
"""

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from fipo.batch import Prompt
from fipo.config import Distributed, Lora, Model, Optimizer
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.models import load_model, load_stops, load_tokenizer, save_model
from fipo.models.lora import add_adapter, save_adapter
from fipo.outcome import Outcome
from fipo.rewards.math import verify
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.rows import Row
from fipo.training.sft import cross_entropy, draw
from tests.published.problems import problems


def main(folder, out, settings):
    start = Model(name_or_path=folder)
    tokenizer = load_tokenizer(start)
    stops = load_stops(start, tokenizer)
    taught, held_out = (
        [rows_of(row, tokenizer, stops) for row in problems(count, seed=seed)]
        for count, seed in ((settings["problems"], 1), (settings["held_out"], 2))
    )
    model = load_model(start)
    lora = Lora(**settings["lora"]) if settings["lora"] else None
    if lora:
        add_adapter(model, lora, seed=0)
    optimizer = Optimizer(
        learning_rate=settings["learning_rate"], warmup_steps=3, weight_decay=0.0, max_tokens_per_micro_batch=1024
    )
    with join_world(Distributed(), seed=0) as world:
        engine = TrainingEngine(model, optimizer, Distributed(precision="fp32"), world)
        rows = [row for row, *_ in held_out]
        before = cross_entropy(engine, rows, tokenizer.pad_token_id, 1024, learn=False)
        answers = settings.get("response_tokens")
        answered_before = accuracy(engine, held_out, tokenizer, stops, answers) if answers else None
        seconds, cpu_seconds, tokens, loss = [], [], 0, 0.0
        for step in range(1, settings["steps"] + 1):
            batch = [taught[index][0] for index in draw(len(taught), settings["batch"], step, 0)]
            began, cpu_began = time.perf_counter(), time.process_time()
            loss = cross_entropy(engine, batch, tokenizer.pad_token_id, 1024, learn=True)
            engine.step()
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu_began)
            tokens += sum(map(len, batch))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answered = accuracy(engine, held_out, tokenizer, stops, answers) if answers else None
        after = cross_entropy(engine, rows, tokenizer.pad_token_id, 1024, learn=False)
        save_model(model, tokenizer, Path(out) / "model", engine.state_dict())
        if lora:
            save_adapter(engine.adapter(), lora, folder, Path(out) / "adapter")
    found = {"accuracy": answered, "accuracy_before": answered_before, "held_out_loss": after, "loss_before": before}
    found |= {"loss": loss, "tokens": tokens, "seconds_per_step": median(seconds), "cpu_seconds": median(cpu_seconds)}
    found |= {"peak_mib": peak / 2**20}
    found["trained_parameters"] = sum(one.numel() for _, one in engine.trained_parameters())
    print(json.dumps(found))


def rows_of(problem, tokenizer, stops):
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": problem["prompt"]}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False).input_ids
    response = [*tokenizer(problem["response"], add_special_tokens=False).input_ids, stops.after(chat=True)]
    return Row(ids, np.asarray(response, np.int32)), problem


def accuracy(engine, held_out, tokenizer, stops, response_tokens):
    """Of greedy answers, by fipo's verifier."""
    sampler = TransformersEngine(
        engine.model,
        eos_token_id=stops.ids,
        pad_token_id=tokenizer.pad_token_id,
        max_batch_tokens=16384,
        in_training=True,
    )
    prompts = [Prompt(str(i), "", tuple(row.prompt_ids), "") for i, (row, _) in enumerate(held_out)]
    groups = sampler.generate(prompts, Sampling(group_size=1, max_response_tokens=response_tokens, temperature=0.0))
    texts = [tokenizer.decode(group.rollouts[0].token_ids, skip_special_tokens=True) for group in groups]
    right = [verify(text, problem["answer"]) is Outcome.CORRECT for text, (_, problem) in zip(texts, held_out)]
    return sum(right) / len(right)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
