"""Responses of several turns, by any engine: a turn is one more prompt, that ends with all that was said so far.

All conversations of a call go turn by turn: while the others still speak, those that have spoken are answered. What was
sampled stays as it was sampled; observations stand between, marked in the rollout's `response_mask`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.environments.host import Conversation, Host
from fipo.outcome import Grade
from fipo.rollout.engine import OnGroup, OnResponses, RolloutEngine, Sampling, Weights
from fipo.rollout.observations import Observations


@dataclass(slots=True)
class _Response:
    """One response while it grows: of a prompt without an environment, from its only turn."""

    place: int
    """Of its prompt among those of the call."""
    index: int
    """Among the responses to the prompt."""
    prompt: Prompt
    conversation: Future[Conversation] | None
    turns: list[Rollout] = field(default_factory=list)
    observations: list[list[int]] = field(default_factory=list)
    """After each turn but the last."""
    reply: Future[str | None] | None = None

    @property
    def tokens(self) -> int:
        """So far, observations included."""
        return sum(len(turn.token_ids) for turn in self.turns) + sum(map(len, self.observations))

    def asked_again(self, room: int) -> Prompt:
        """The prompt of the next turn; its id makes the random numbers its own."""
        said = [
            token
            for turn, seen in zip(self.turns, self.observations, strict=True)
            for token in (*turn.token_ids.tolist(), *seen)
        ]
        return Prompt(
            id=f"{self.prompt.draw_id}/{self.index}/{len(self.turns)}",
            text=self.prompt.text,
            token_ids=(*self.prompt.token_ids, *said),
            answer=self.prompt.answer,
            room=room,
        )

    def rollout(self, reason: FinishReason, grade: Grade | None) -> Rollout:
        """All its turns as one."""
        last = replace(self.turns[-1], finish_reason=reason, grade=grade)
        if not self.observations:
            return last
        token_ids, log_probs, mask, versions = [], [], [], []
        for turn, seen in zip(self.turns, [*self.observations, []], strict=True):
            versions += [turn.versions, np.full(len(seen), turn.versions[-1])]
            token_ids += [turn.token_ids, np.array(seen, np.int32)]
            log_probs += [turn.log_probs, np.zeros(len(seen), np.float32)]
            mask += [np.ones(len(turn.token_ids), bool), np.zeros(len(seen), bool)]
        first, all_versions = self.turns[0].weight_version, np.concatenate(versions)
        return replace(
            last,
            weight_version=first,
            later_versions=None if (all_versions == first).all() else all_versions,
            token_ids=np.concatenate(token_ids),
            log_probs=np.concatenate(log_probs),
            response_mask=np.concatenate(mask),
        )


class TurnsEngine(RolloutEngine):
    """Another engine, whose responses to prompts with an environment have turns; the others are left as they are.

    `Sampling.max_response_tokens` bounds all that follows the prompt, observations too: what a row must have room for.
    A response ends where its environment says so, at that limit, or after `max_turns` turns; then it is as truncated
    as one that reaches the limit. A turn that the limit cuts is not answered.

    Args:
        engine: samples the turns.
        host: holds the environments; closed with the engine.
        observations: what is said between turns, in tokens.
        tokenizer: turns the model's tokens into text for the environments.
        max_turns: of one response.
        context: tokens of prompt and response at most.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        host: Host,
        observations: Observations,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_turns: int,
        context: int,
    ) -> None:
        self._engine, self._host, self._observations, self._tokenizer = engine, host, observations, tokenizer
        self._max_turns, self._context = max_turns, context
        self.ranks_together, self.stop_ids, self.continues = engine.ranks_together, engine.stop_ids, engine.continues

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """See `RolloutEngine.generate`."""
        done = _Done(prompts, sampling.group_size, progress, on_group)
        asked = [(prompt, self._begin(place, prompt, sampling)) for place, prompt in enumerate(prompts)]
        size = sampling.group_size
        for turn in range(self._max_turns):
            if not asked and self.ranks_together == 1:
                break  # ranks together generate for each other, so all must call alike
            speaking = [response for _, responses in asked for response in responses]
            try:
                self._speak(asked, replace(sampling, group_size=size), done)
                asked = self._answered(speaking, sampling, done, last=turn == self._max_turns - 1)
            except BaseException:  # who is interrupted must not wait for what has not begun
                for response in speaking:
                    if response.reply:
                        response.reply.cancel()
                raise
            size = 1
        return done.in_order()

    def parts(self, prompts: Sequence[Prompt], sampling: Sampling, ranks: int) -> list[list[int]]:
        """See `RolloutEngine.parts`: where the engine would refill, one for each, since turns go together."""
        if self._engine.refills:
            return super().parts(prompts, sampling, ranks)
        return self._engine.parts(prompts, sampling, ranks)

    def kept(self, part: Sequence[int]) -> Sequence[int]:
        """See `RolloutEngine.kept`."""
        return self._engine.kept(part)

    def load_weights(self, source: Weights, version: int) -> None:
        """See `RolloutEngine.load_weights`."""
        self._engine.load_weights(source, version)

    def sleep(self) -> None:
        """See `RolloutEngine.sleep`."""
        self._engine.sleep()

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        self._host.close()
        self._engine.close()

    def _begin(self, place: int, prompt: Prompt, sampling: Sampling) -> list[_Response]:
        return [
            _Response(place, index, prompt, self._host.begin(prompt) if prompt.environment else None)
            for index in range(sampling.group_size)
        ]

    def _speak(self, asked: Sequence[tuple[Prompt, list[_Response]]], sampling: Sampling, done: _Done) -> None:
        """One turn of each response; the answers of environments are under way."""
        waiting: dict[Prompt, deque[list[_Response]]] = defaultdict(deque)
        for prompt, responses in asked:
            waiting[prompt].append(responses)

        def heard(group: RolloutGroup) -> None:
            responses = waiting[group.prompt].popleft()
            for response, turn in zip(responses, group.rollouts, strict=True):
                response.turns.append(turn)
                if response.conversation is None:
                    done.add(response, turn)
                elif turn.finish_reason is FinishReason.STOP:
                    response.reply = self._host.submit(_step, response.conversation, self._text(turn))

        self._engine.generate([prompt for prompt, _ in asked], sampling, on_group=heard)

    def _answered(
        self, spoken: Iterable[_Response], sampling: Sampling, done: _Done, *, last: bool
    ) -> list[tuple[Prompt, list[_Response]]]:
        """Those that go on, each with the prompt of its next turn; the others are done."""
        going_on, ended = [], []
        for response in spoken:
            if response.conversation is None:
                continue
            reply = response.reply.result() if response.reply else None
            response.reply = None
            stopped = response.turns[-1].finish_reason is FinishReason.STOP
            prompt = None if reply is None or last else self._next(response, reply, sampling)
            if prompt:
                going_on.append((prompt, [response]))
            else:
                reason = FinishReason.STOP if stopped and reply is None else FinishReason.LENGTH
                ended.append((response, reason, self._host.submit(_grade, response.conversation)))
        for response, reason, grade in ended:
            done.add(response, response.rollout(reason, grade.result()))
        return going_on

    def _next(self, response: _Response, reply: str, sampling: Sampling) -> Prompt | None:
        """The prompt of the next turn; None where there is no room for one."""
        seen = self._observations.encode(reply, int(response.turns[-1].token_ids[-1]))
        used = response.tokens + len(seen)
        room = min(sampling.max_response_tokens, self._context - len(response.prompt.token_ids)) - used
        if room < 1:
            return None
        response.observations.append(seen)
        return response.asked_again(room)

    def _text(self, turn: Rollout) -> str:
        return str(self._tokenizer.decode(turn.token_ids.tolist(), skip_special_tokens=True))


class _Done:
    """Finished responses, put together to groups; each group is told of when it is complete."""

    def __init__(
        self, prompts: Sequence[Prompt], size: int, progress: OnResponses | None, on_group: OnGroup | None
    ) -> None:
        self._prompts, self._size, self._progress, self._on_group = prompts, size, progress, on_group
        self._found: list[dict[int, Rollout]] = [{} for _ in prompts]
        self._groups: dict[int, RolloutGroup] = {}
        self._count = 0

    def add(self, response: _Response, rollout: Rollout) -> None:
        found = self._found[response.place]
        found[response.index] = rollout
        self._count += 1
        if self._progress:
            self._progress(self._count, len(self._prompts) * self._size)
        if len(found) == self._size:
            rollouts = tuple(found[index] for index in range(self._size))
            group = RolloutGroup(self._prompts[response.place], rollouts)
            self._groups[response.place] = group
            if self._on_group:
                self._on_group(group)

    def in_order(self) -> list[RolloutGroup]:
        return [self._groups[place] for place in range(len(self._prompts))]


def _step(conversation: Future[Conversation], text: str) -> str | None:
    return conversation.result().step(text)


def _grade(conversation: Future[Conversation]) -> Grade | None:
    return conversation.result().grade()
