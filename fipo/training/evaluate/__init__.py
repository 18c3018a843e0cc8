"""The evaluation job: every benchmark, for the warmed-up and the trained model, sharded over the ranks."""

from __future__ import annotations

from pathlib import Path

from fipo.config import Config, Model
from fipo.data.schema import read_problems, tokenize
from fipo.evaluation.benchmark import evaluate
from fipo.evaluation.parts import Parts
from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import problems_table, write_result
from fipo.models import load_model, load_tokenizer
from fipo.rewards.math import extract_answer
from fipo.rewards.pool import VerifierPool
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.job import Job

MODELS = {"evaluate": {"warmup": "sft", "trained": "train"}, "score": {"trained": "sft"}}
"""By step: the models that answer, and the steps that made them."""


def evaluate_models(job: Job) -> None:
    """Publish the output `results` (tables of responses and problems) and the summaries as the step's details."""
    config, folder = job.config, job.workspace.directory / "results"
    dataset = job.input("prepare", "dataset")
    summaries: dict[str, dict[str, object]] = {}
    with VerifierPool(workers=config.reward.workers, timeout_seconds=config.reward.timeout_seconds) as verifier:
        for label, step in MODELS[job.workspace.step].items():
            model = job.input(step, "model")
            summaries[label] = {}
            for benchmark in config.data.benchmarks:
                result = _evaluate(
                    job, model, dataset / "benchmarks" / f"{benchmark}.parquet", benchmark, label, verifier
                )
                summary = result.summary(seed=config.run.seed)
                summaries[label][benchmark] = summary.to_dict()
                # The trained model's scores have the plain names, so that runs compare by them.
                prefix = f"eval/{benchmark}" if label == "trained" else f"eval/{benchmark}/{label}"
                job.log_final(
                    {
                        f"{prefix}/avg_at_k": summary.avg_at_k.value,
                        f"{prefix}/cons_at_k": summary.cons_at_k.value,
                        f"{prefix}/pass_at_k": summary.pass_at_k.value,
                        f"{prefix}/mean_response_tokens": summary.mean_response_tokens,
                        f"{prefix}/truncated_fraction": summary.truncation_rate,
                    }
                )
                job.say(
                    f"{label} on {benchmark}: avg@{summary.k} {summary.avg_at_k.value:.3f}  "
                    f"cons@{summary.k} {summary.cons_at_k.value:.3f}  pass@{summary.k} {summary.pass_at_k.value:.3f}  "
                    f"mean length {summary.mean_response_tokens:.1f} tokens"
                )
                if job.attempt:
                    write_result(result, folder / label)
                    rows = problems_table(result.problems).to_pylist()
                    job.attempt.tracker.table(rows, f"problems/{benchmark}-{label}.json")
    if job.attempt:
        job.attempt.details |= summaries
        job.attempt.publish("results", folder)


def _evaluate(
    job: Job, model_folder: Path, problems: Path, benchmark: str, label: str, verifier: VerifierPool
) -> BenchmarkResult:
    config, world = job.config, job.world
    tokenizer = load_tokenizer(Model(name_or_path=str(model_folder)))
    prompts = [tokenize(problem, tokenizer, config.data) for problem in read_problems(problems)]
    engine = TransformersEngine(
        load_model(Model(name_or_path=str(model_folder))).to(world.device),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_batch_tokens=config.rollout.max_batch_tokens,
    )
    mine = prompts[world.rank :: world.size]
    shard = mine and evaluate(
        benchmark,
        mine,
        engine,
        sampling=_sampling(config),
        tokenizer=tokenizer,
        verify=verifier.verify,
        extract_answer=extract_answer,
        parts=Parts(job.workspace.directory / "parts", key=f"{job.workspace.fingerprint}/{label}/{benchmark}"),
    )
    engine.close()
    return BenchmarkResult.merge(filter(None, world.gather(shard)), [prompt.id for prompt in prompts])


def _sampling(config: Config) -> Sampling:
    return Sampling(
        group_size=config.evaluation.samples,
        max_response_tokens=config.rollout.max_response_tokens,
        temperature=config.evaluation.temperature,
        top_p=config.evaluation.top_p,
        seed=config.run.seed,
    )
