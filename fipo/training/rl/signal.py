"""Steps from which nothing can be learned, since no response is correct: what they say, and when they end training."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from fipo.batch import FinishReason, Outcome, Sample
from fipo.config import Train
from fipo.errors import TrainingError
from fipo.findings import excerpt
from fipo.training.job import Job
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.state import RlState

ADVICE = {
    "unparsed": "no answer can be read in most responses: teach the format that the grader reads, in the prompt or in "
    "the demonstrations of data.sft",
    "truncated": "most responses reach a limit: raise rollout.max_response_tokens (where there are turns, perhaps "
    "rollout.max_turns), or look at what ends a response",
    "wrong": "the problems are too hard as yet: warm up longer (sft.steps), take easier ones, or raise "
    "rollout.group_size",
    "timeout": "the grader has no verdict on most responses: raise reward.timeout_seconds or reward.workers",
}
"""What to do about the commonest failure."""
SHOWN_CHARACTERS = 160
"""Of a problem or response that is shown."""


class SignalWatch:
    """Tells of steps without any correct response, and ends training after too many of them in a row."""

    def __init__(self, job: Job, settings: Train, tokenizer: PreTrainedTokenizerBase) -> None:
        self._job, self._most, self._tokenizer = job, settings.max_steps_without_signal, tokenizer

    def check(self, state: RlState, batch: RolloutBatch) -> None:
        """Look at the step that led to `state`.

        Raises:
            TrainingError: the limit is reached; the message says what most responses lack.
        """
        self._job.log({"train/steps_without_signal": float(state.steps_without_signal)}, state.step)
        if not state.steps_without_signal:
            return
        found = failures(batch.samples)
        shares = ", ".join(f"{len(samples) / len(batch.samples):.0%} {name}" for name, samples in found.items())
        what = f"step {state.step}: none of {len(batch.samples)} responses is correct ({shares})"
        self._job.say(f"warning: {what}; nothing is learned from it ({state.steps_without_signal} in a row)")
        for name, [first, *_] in found.items():
            self._job.say(f"  {name}: {self._shown(first)}")
        if state.steps_without_signal >= self._most:
            raise TrainingError(
                f"{what}, as in the {self._most} steps in a row that train.max_steps_without_signal allows: "
                f"{ADVICE[next(iter(found))]}"
            )

    def _shown(self, sample: Sample) -> str:
        """Problem and response, each on one line with its beginning and its end."""
        response = str(self._tokenizer.decode(sample.rollout.token_ids.tolist(), skip_special_tokens=True))
        return " -> ".join(repr(excerpt(text, SHOWN_CHARACTERS)) for text in (sample.prompt.text, response))


def failures(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Responses by what each of them lacks, the commonest first; a truncated one had no chance to be anything else."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        truncated = sample.rollout.finish_reason is FinishReason.LENGTH
        if sample.score.outcome is not Outcome.CORRECT:
            found.setdefault("truncated" if truncated else str(sample.score.outcome), []).append(sample)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))
