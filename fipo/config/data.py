"""What is learned from, and what is measured on."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fipo.config.base import Name, Probability, Role, Section, require
from fipo.uris import check_rows

GRADERS = ("math", "exact", "choice", "tests")
"""Those that are built in."""

MADE = {"generator": "running-sums", "programs": "programs", "search": "search"}
"""Settings that make problems, and what their sources are called."""

ENVIRONMENTS = ("python", "guess")
"""Those that are built in."""

TEST_COLUMNS = ("private_test_cases", "metadata", "test_imports", "test_setup_code", "entry_point")
"""Columns that `tests` reads where a row has them."""


class RunningSums(Section):
    """A seeded generator of verifiable arithmetic problems with demonstrations of differing depth."""

    digits: int = Field(8, ge=2, le=64)
    """Numbers to add in one problem."""
    modulus: int = Field(5, ge=2, le=10)
    """Sums are taken modulo this; every number is below it."""
    seed: int = Field(0, ge=0)
    """Two generators with different seeds make different problems."""
    worked: Probability = 0.4
    """Share of demonstrations that write out every running sum."""
    partly: Probability = 0.2
    """Share of demonstrations that write out the first half; the rest answer at once."""
    asked: Probability = 0.0
    """Share of demonstrations that ask Python: the first turn of a conversation with the environment `python`."""
    told: Probability = 0.0
    """Share of demonstrations that have asked, have been told, and answer: the second turn."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        shares = self.worked + self.partly + self.asked + self.told
        require(shares <= 1.0 + 1e-9, "worked + partly + asked + told", "at most 1", shares)
        return self


class Programs(Section):
    """A seeded generator of little functions to write in Python, with demonstrations that differ in care."""

    operations: int = Field(4, ge=2, le=16)
    """Operations, one on the result of the other."""
    seed: int = Field(0, ge=0)
    """Two generators with different seeds make different problems."""
    careful: Probability = 0.4
    """Share of demonstrations with the parentheses that the order of operations needs; the rest have none."""


class Search(Section):
    """A seeded generator of problems to guess and verify, with demonstrations that may give up."""

    seeds: int = Field(12, ge=1, le=64)
    """Tables of candidates, one of which a problem names."""
    candidates: int = Field(16, ge=2, le=64)
    """Of which one is right."""
    tables: int = Field(0, ge=0)
    """Determines the tables, and which problems are held out."""
    part: Literal["train", "held_out"] = "train"
    """Which problems are made; the two parts have none in common."""
    held_out: Probability = 0.25
    """Share of problems that are held out."""
    seed: int = Field(0, ge=0)
    """Determines the demonstrations."""
    give_up: Probability = 0.25
    """How probably a demonstration ends with a wrong candidate, after each."""


class Source(Section):
    """Where problems come from: `uri`, or one of the generators `generator`, `programs` and `search`."""

    uri: Annotated[str, Role.PLACEMENT] = ""
    """A file of rows: JSONL, a JSON array, CSV, each plain or `.gz`, or parquet (a path, `file://`, `s3://`); a folder
    in the hub's layout; or a data set of the hub (`hf://organisation/name`)."""
    subset: str = ""
    """Configuration name of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: Annotated[str, Role.PLACEMENT] = ""
    """Commit of a hub data set; pin it for runs to be comparable."""
    prompt_column: str = "prompt"
    """Column of the problem: a string, or a list of chat messages (the DAPO-Math-17k layout); or several, in braces,
    with the text around them: `"{passage} {question}"`, `"{question}\\n{options}"`."""
    answer_column: str = "answer"
    """Column of the reference answer; dots reach into a struct (`reward_model.ground_truth`)."""
    answer_after: str = ""
    """The answer is what follows the last occurrence of this text in its column (GSM8K: `####`)."""
    answers_from: Literal[0, 1] | None = None
    """With the grader `choice`, where answers are numbers of options, as text too: that of the first, 0 (HellaSwag) or
    1 (WinoGrande). Null counts from 0, and takes numbers alone: a digit in a text may be an option's own words."""
    response_column: str = "response"
    """Column of the demonstration, for `data.sft`."""
    max_demonstration_tokens: int | None = Field(None, ge=1)
    """Rows whose demonstration is longer, its end included, are dropped and counted; null keeps them all. In `data.sft`
    one that is longer than `rollout.max_response_tokens` teaches an answer that RL cuts off; in `data.train` and a
    benchmark, short solutions tell which problems are easy."""
    ending: Literal["", "boxed"] = ""
    """How a demonstration ends, for `data.sft`: `boxed` puts the answer into a box, which the graders read, in place of
    `answer_after` and what follows (GSM8K: `#### 72`); empty leaves it as it is."""
    grader: str = "math"
    """What tells right from wrong: `math` compares answers as mathematics, `exact` as text, `choice` by letters;
    `tests` runs the response's program on the tests in the answer's column; or a `package.module:function`."""
    columns: tuple[str, ...] = ()
    """Columns that grader and environment read besides the answer; `tests` knows its own."""
    environment: str = ""
    """What answers the model's turns: `python` runs the code that they hold, `guess` is a game with a hidden number;
    or a `package.module:Class`. Empty: a response is one turn."""
    generator: RunningSums | None = None
    """Make running sums instead of reading problems."""
    programs: Programs | None = None
    """Make functions to write instead of reading problems; for the grader `tests`."""
    search: Search | None = None
    """Make problems that are solved by guessing and verifying."""
    limit: int | None = Field(None, ge=1)
    """Take at most this many rows; how many to make, with a generator."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("uri", *MADE) if getattr(self, name)]
        require(len(given) == 1, f"uri, {', '.join(MADE)}", "exactly one of them", " and ".join(given) or "neither")
        is_choice = self.answers_from is None or self.grader == "choice"
        require(is_choice, "answers_from", "null unless the grader is choice", self.answers_from)
        require(not self.is_made or self.limit, "limit", "set with a generator", self.limit)
        return self

    @property
    def is_made(self) -> bool:
        """Whether a generator makes its rows."""
        return not self.uri

    @property
    def name(self) -> str:
        """`uri`, or that of the generator."""
        return self.uri or next(name for field, name in MADE.items() if getattr(self, field))

    @field_validator("uri")
    @classmethod
    def _is_address(cls, uri: str) -> str:
        check_rows(uri)
        return uri

    @field_validator("grader")
    @classmethod
    def _is_named(cls, grader: str) -> str:
        if grader not in GRADERS and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", grader):
            raise ValueError(f"must be one of {', '.join(GRADERS)}, or package.module:function; got {grader!r}")
        return grader

    @field_validator("environment")
    @classmethod
    def _is_one(cls, environment: str) -> str:
        if environment not in ("", *ENVIRONMENTS) and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", environment):
            raise ValueError(
                f"must be empty, one of {', '.join(ENVIRONMENTS)}, or package.module:Class; got {environment!r}"
            )
        return environment


class Benchmark(Source):
    """A held-out set and how it is measured; what is empty here follows the run's other settings."""

    prompt_template: str = ""
    """Text around the problem; empty is `data.prompt_template`: the model is asked as it was trained."""
    grader: Annotated[str, Role.GRADING] = "math"
    """As of a source to learn from: `math`, `exact`, `choice`, `tests`, or `package.module:function`."""
    environment: Annotated[str, Role.GRADING] = ""
    """As of a source to learn from: `python`, `guess`, `package.module:Class`, or empty."""
    samples: Annotated[int | None, Role.MEASURING] = Field(None, ge=1)
    """Responses to each problem; null is `evaluation.samples`."""
    temperature: Annotated[float | None, Role.MEASURING] = Field(None, ge=0.0)
    """null is `evaluation.temperature`."""
    top_p: Annotated[float | None, Role.MEASURING] = Field(None, gt=0.0, le=1.0)
    """null is `evaluation.top_p`."""

    @model_validator(mode="after")
    def _template(self) -> Self:
        require("{prompt}" in (self.prompt_template or "{prompt}"), "prompt_template", "a text with {prompt}", "none")
        return self


class Data(Section):
    """What is learned from and what is measured on."""

    train: tuple[Source, ...] = Field(min_length=1)
    """Problems for RL: prompt and answer."""
    sft: tuple[Source, ...] = ()
    """Demonstrations for the warm-up: prompt, response, answer."""
    benchmarks: dict[Name, Benchmark] = Field(min_length=1)
    """Held-out problems: names of shipped benchmarks or files (`[aime-2024, mine.yaml]`), or settings by name. Whatever
    overlaps them is removed from `train` and `sft`."""
    prompt_template: str = "{prompt}"
    """Text around the problem; must hold `{prompt}`."""
    chat: bool = False
    """Wrap the prompt as one user message in the tokenizer's chat template."""
    system_prompt: str = ""
    """The system message before it, with `chat`; empty is none, or what the template itself writes."""
    chat_template_arguments: dict[str, Any] = Field({})
    """What the chat template is told besides the messages, such as `{enable_thinking: false}` for Qwen3."""
    max_prompt_tokens: int = Field(2048, ge=1)
    """Longer prompts are dropped and counted."""
    near_duplicate_jaccard: Probability | None = 0.9
    """Of problems whose word 5-grams overlap at least this much, the first is kept; null keeps them all."""
    decontamination_ngram: int = Field(13, ge=1)
    """A problem that shares this many consecutive words with a benchmark is removed (a shorter one: when equal)."""
    validation_fraction: Probability = 0.02
    """Share of each data set that is held out, chosen by content hash."""
    max_wrong_demonstrations: Annotated[Probability, Role.PLACEMENT] = 0.1
    """Preparation is refused where the grader finds no answer, or a wrong one, in more than this share of a source's
    demonstrations: the warm-up would teach what earns nothing."""

    @model_validator(mode="after")
    def _template(self) -> Self:
        require("{prompt}" in self.prompt_template, "prompt_template", "a text with {prompt}", self.prompt_template)
        for name in ("system_prompt", "chat_template_arguments"):
            given = getattr(self, name)
            require(self.chat or not given, name, "empty without data.chat, whose template takes it", repr(given))
        return self

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by the setting that names it, `data.train[0]`."""
        named: dict[str, Source] = {f"data.train[{index}]": source for index, source in enumerate(self.train)}
        named |= {f"data.sft[{index}]": source for index, source in enumerate(self.sft)}
        return named | {f"data.benchmarks.{name}": source for name, source in self.benchmarks.items()}

    def asked_as(self, benchmark: Name) -> Self:
        """These settings with the benchmark's own prompt template, if it has one."""
        own = self.benchmarks[benchmark].prompt_template
        return self.model_copy(update={"prompt_template": own}) if own else self
