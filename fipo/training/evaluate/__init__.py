"""The evaluation job: every benchmark, for the warmed-up and the trained model, sharded over the ranks."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from fipo.config import Benchmark, Config, Model
from fipo.data.contamination import contaminated
from fipo.data.schema import read_problems, tokenize
from fipo.distributed.engine import weights_dtype
from fipo.distributed.work_queue import of_its_share, taken
from fipo.environments.notice import notice
from fipo.evaluation.benchmark import Graders, answer, check_problems
from fipo.evaluation.parts import Parts
from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import problems_table, write_result
from fipo.models import load_stops, load_tokenizer
from fipo.models.stops import Stops
from fipo.records import Evaluated, Scores
from fipo.rewards.pool import open_pool
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.factory import open_engine
from fipo.rollout.weights import stored_weights
from fipo.training.job import Job

MODELS = {"evaluate": {"warmup": "sft", "trained": "train"}, "score": {"trained": "sft"}}
"""By step: the models that answer, and the steps that made them."""


def evaluate_models(job: Job) -> None:
    """Publish the output `results` (tables of responses and problems) and record the scores."""
    config, folder = job.config, job.workspace.directory / "results"
    dataset = job.input("prepare", "dataset")
    models = {label: job.input(step, "model") for label, step in MODELS[job.workspace.step].items()}
    if said := notice(config, "data.benchmarks"):
        job.say(said)
    overlaps = _contamination(job, dataset)
    measured: dict[str, dict[str, Scores]] = {}
    with (
        open_pool(config.reward) as graders,
        closing(_open_engine(job, models["trained"])) as engine,
    ):
        for version, (label, model) in enumerate(models.items()):
            engine.load_weights(stored_weights(model), version)
            tokenizer = load_tokenizer(Model(name_or_path=str(model)))
            stops = load_stops(Model(name_or_path=str(model)), tokenizer)
            job.say(f"{label} stops at: {stops.names(tokenizer)}")
            measured[label] = {}
            for benchmark in config.data.benchmarks:
                problems = dataset / "benchmarks" / f"{benchmark}.parquet"
                result = _evaluate(job, engine, tokenizer, stops, problems, benchmark, label, graders)
                scores = result.scores(seed=config.run.seed)
                measured[label][benchmark] = scores
                _tell(job, scores, benchmark, label)
                if job.attempt:
                    write_result(result, folder / label, overlaps[benchmark])
                    rows = problems_table(result.problems, overlaps[benchmark]).to_pylist()
                    job.attempt.tracker.table(rows, f"problems/{benchmark}-{label}.json")
    if job.attempt:
        contaminated = {benchmark: len(problems) for benchmark, problems in overlaps.items()}
        job.attempt.record(Evaluated(**measured, contaminated=contaminated))
        job.attempt.publish("results", folder)


def _tell(job: Job, scores: Scores, benchmark: str, label: str) -> None:
    """Log a model's scores on a benchmark, and say them."""
    # The trained model's scores have the plain names, so that runs compare by them.
    prefix = f"eval/{benchmark}" if label == "trained" else f"eval/{benchmark}/{label}"
    job.log_final(
        {
            f"{prefix}/avg_at_k": scores.avg_at_k.value,
            f"{prefix}/cons_at_k": scores.cons_at_k.value,
            f"{prefix}/pass_at_k": scores.pass_at_k.value,
            f"{prefix}/mean_response_tokens": scores.mean_response_tokens,
            f"{prefix}/truncated_fraction": scores.truncation_rate,
        }
    )
    job.say(
        f"{label} on {benchmark}: avg@{scores.k} {scores.avg_at_k.value:.3f}  "
        f"cons@{scores.k} {scores.cons_at_k.value:.3f}  pass@{scores.k} {scores.pass_at_k.value:.3f}  "
        f"mean length {scores.mean_response_tokens:.1f} tokens"
    )


def _contamination(job: Job, dataset: Path) -> dict[str, frozenset[str]]:
    """On rank 0: the problems of each benchmark that the training data hold after all, by id."""
    if not job.attempt:
        return {}
    found = {}
    for benchmark in job.config.data.benchmarks:
        problems = read_problems(dataset / "benchmarks" / f"{benchmark}.parquet")
        found[benchmark] = contaminated(dataset, problems, ngram=job.config.data.decontamination_ngram)
        job.log_final({f"eval/{benchmark}/contaminated_fraction": len(found[benchmark]) / len(problems)})
        if found[benchmark]:
            job.say(
                f"warning: {len(found[benchmark])} of {len(problems)} problems of {benchmark} overlap the training "
                "data; they are marked in the table of problems"
            )
    return found


def _open_engine(job: Job, model: Path) -> RolloutEngine:
    """One engine for all models: they are of one architecture."""
    config, world = job.config, job.world
    return open_engine(
        config,
        model,
        load_tokenizer(Model(name_or_path=str(model))),
        dtype=weights_dtype(config.distributed, world.device),
        device=world.device,
        rank=world.rank,
        alone=True,
    )


def _evaluate(
    job: Job,
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    stops: Stops,
    problems: Path,
    benchmark: str,
    label: str,
    graders: Graders,
) -> BenchmarkResult:
    config, world, settings = job.config, job.world, job.config.data.benchmarks[benchmark]
    prompts = [tokenize(problem, tokenizer, config.data.asked_as(benchmark)) for problem in read_problems(problems)]
    check_problems(benchmark, prompts)
    stops.check_prompt(prompts[0].token_ids, tokenizer)
    kept = Parts(job.workspace.directory / "parts", key=f"{job.workspace.fingerprint}/{label}/{benchmark}")
    done, sampling = kept.read(), _sampling(config, settings)
    everywhere = set().union(*world.gather(set(done)))
    left = [prompt for prompt in prompts if prompt.id not in everywhere]
    parts = engine.parts(left, sampling, world.size)
    done |= answer(
        left,
        (parts[number] for number in taken(world, len(parts), engine.ranks_together)),
        engine,
        sampling=sampling,
        tokenizer=tokenizer,
        graders=graders,
        kept=kept,
        progress=of_its_share(partial(job.part, f"{label} on {benchmark}"), len(left) * sampling.group_size, world),
    )
    shards = world.gather(BenchmarkResult(benchmark, tuple(done.values())))
    return BenchmarkResult.merge(shards, [prompt.id for prompt in prompts])


def _sampling(config: Config, benchmark: Benchmark) -> Sampling:
    """The benchmark's own settings where it has any."""
    defaults = config.evaluation
    return Sampling(
        group_size=benchmark.samples or defaults.samples,
        max_response_tokens=config.rollout.max_response_tokens,
        temperature=defaults.temperature if benchmark.temperature is None else benchmark.temperature,
        top_p=benchmark.top_p or defaults.top_p,
        seed=config.run.seed,
    )
