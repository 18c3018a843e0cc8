"""The interface of every inference engine: token ids in; responses with log-probs, finish reason and version out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fipo.batch import Prompt, RolloutGroup
from fipo.errors import RolloutError
from fipo.rollout.parts import dealt

Weights = Iterable[tuple[str, Tensor]]
"""Full (gathered) parameters by name, as `model.named_parameters()` yields them."""

OnResponses = Callable[[int, int], None]
"""Called as `progress(responses_done, responses_in_all)` while a batch is generated."""

OnGroup = Callable[[RolloutGroup], None]
"""Called with each group as soon as it is complete, in the calling thread: rewards overlap with generation."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. Log-probs are those of the processed distribution: temperature and top-p applied."""

    group_size: int
    """Responses to each prompt."""
    max_response_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int = 0
    """With the prompt's `draw_id` and the response's index it determines each response, whatever the batch is."""


class RolloutEngine(ABC):
    """Generates responses. Weights change only through `load_weights`."""

    ranks_together = 1
    """Neighbouring ranks that compute each response together: all of them must call alike, and none may leave alone."""

    refills = False
    """Whether it takes prompts while others are generated, so that a part may be as small as one prompt."""

    continues = False
    """Whether weights may be loaded while another thread generates: what is under way goes on with the new ones."""

    stop_ids: frozenset[int] = frozenset()
    """The tokens that end a response."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """One group of `sampling.group_size` responses for each prompt, in order.

        Each group that is returned was given to `on_group` before, in the order of completion.

        Raises:
            RolloutError: a prompt is empty or leaves no room in the model's context, or the engine failed.
        """

    def parts(self, prompts: Sequence[Prompt], sampling: Sampling, ranks: int) -> list[list[int]]:
        """How prompts that all ranks have are cut, by place: at least one part for each rank, or ranks together.

        Ranks take them one after the other (`fipo.distributed.work_queue`). What a part holds does not depend on who
        takes it.
        """
        return dealt(len(prompts), ranks // self.ranks_together)

    def kept(self, part: Sequence[int]) -> Sequence[int]:
        """Of a part that ranks together generate: the places whose groups this rank returns."""
        return part

    def generate_parts(
        self,
        prompts: Sequence[Prompt],
        parts: Iterable[Sequence[int]],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> dict[int, RolloutGroup]:
        """The groups of the parts that this rank takes, by place in `prompts`, which all ranks have.

        Each part is asked for when there is room for it: here, when the one before is done.
        """
        found: dict[int, RolloutGroup] = {}
        for part in parts:
            own = self.kept(part)
            told = _after(progress, len(found) * sampling.group_size)
            groups = self.generate([prompts[place] for place in own], sampling, progress=told, on_group=on_group)
            found |= zip(own, groups, strict=True)
        return found

    @abstractmethod
    def load_weights(self, source: Weights, version: int) -> None:
        """Replace the weights by `source` and stamp later responses with `version`."""

    def sleep(self) -> None:  # noqa: B027
        """Give the accelerator's memory to training; the next `load_weights` takes it back.

        For engines that share the trainer's devices; the others do nothing.
        """

    @abstractmethod
    def close(self) -> None:
        """Release memory and processes; idempotent."""


def _after(progress: OnResponses | None, before: int) -> OnResponses | None:
    """The progress of a part that comes after so many responses; how many parts will follow nobody knows."""
    return progress and (lambda done, responses: progress(before + done, before + responses))


def ids_that_stop(eos_token_id: int | Collection[int]) -> frozenset[int]:
    """One token, or several."""
    return frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id)


def response_limit(prompt: Prompt, sampling: Sampling, context: int) -> int:
    """Tokens that a response to the prompt may have, in a context of so many."""
    limit = min(sampling.max_response_tokens, context - len(prompt.token_ids))
    return limit if prompt.room is None else min(limit, prompt.room)


def check_prompts(prompts: Sequence[Prompt], context: int) -> None:
    """Each prompt must leave room for a response in the model's `context` tokens.

    Raises:
        RolloutError: one is empty or too long.
    """
    for prompt in prompts:
        if not 0 < len(prompt.token_ids) < context:
            raise RolloutError(
                f"prompt {prompt.id}: must have 1 to {context - 1} tokens, for the model's context of {context}; "
                f"got {len(prompt.token_ids)}"
            )
