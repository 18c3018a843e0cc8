"""What a step sampled, as a table: parquet keeps all of it, a few rows are for reading."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from fipo.batch import Rollout, RolloutGroup, TokenTrace
from fipo.rollout.texts import TokenTexts
from fipo.storage import ObjectStore

TRACED = ("influence_weights", "future_kl", "log_ratio", "entropy", "mismatch")
"""Fields of `TokenTrace` that hold a number for each token."""
ROW_GROUP = 64
"""Responses that are read together: a reader of one group need not fetch a step of gigabytes."""
SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("prompt_id", pa.string()),
        # How often the prompt was drawn before in the step; with its id it tells the groups apart.
        ("draw", pa.int32()),
        ("source", pa.string()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_index", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("rollout_log_probs", pa.list_(pa.float32())),
        # False on an environment's observations; null where there are none.
        ("response_mask", pa.list_(pa.bool_())),
        ("finish_reason", pa.string()),
        ("weight_version", pa.int64()),
        # Of each token, where more than one version has sampled the response; else null.
        ("weight_versions", pa.list_(pa.int64())),
        ("environment", pa.string()),
        ("grader", pa.string()),
        ("outcome", pa.string()),
        ("explanation", pa.string()),
        ("accuracy", pa.float32()),
        ("reward", pa.float32()),
        ("reward_components", pa.map_(pa.string(), pa.float32())),
        # Null where the response was not learned from.
        ("advantage", pa.float32()),
        # As text, special tokens included; the texts of the tokens follow one another in it.
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("token_characters", pa.list_(pa.int32())),
        # Without an environment's observations.
        ("response_tokens", pa.int32()),
        # Of `TokenTrace`: null where the response was not learned from, NaN on observations.
        ("update", pa.int32()),
        *((name, pa.list_(pa.float16())) for name in TRACED),
    ]
)
"""One row a response."""


def record_table(
    step: int, groups: Sequence[RolloutGroup], traces: Mapping[tuple[str, int, int], TokenTrace], tokens: TokenTexts
) -> pa.Table:
    """One row for each response of graded groups.

    Args:
        step: of the loop.
        groups: all that were sampled.
        traces: by `Sample.key`, of the responses that were learned from.
        tokens: their texts.
    """
    prompts = {group: tokens.decode(list(group.prompt.token_ids)) for group in groups}
    rows = [
        {
            "step": step,
            "prompt_id": sample.prompt.id,
            "draw": sample.prompt.draw,
            "source": sample.prompt.source,
            "problem": sample.prompt.text,
            "answer": sample.prompt.shown_answer,
            "prompt_token_ids": sample.prompt.token_ids,
            "response_index": sample.index,
            "token_ids": sample.rollout.token_ids,
            "rollout_log_probs": sample.rollout.log_probs,
            "response_mask": sample.rollout.response_mask,
            "finish_reason": str(sample.rollout.finish_reason),
            "weight_version": sample.rollout.weight_version,
            "weight_versions": sample.rollout.later_versions,
            "environment": sample.prompt.environment,
            "grader": sample.prompt.grader,
            "outcome": str(sample.score.outcome),
            "explanation": sample.score.explanation,
            "accuracy": sample.score.accuracy,
            "reward": sample.score.reward,
            "reward_components": list(sample.score.components.items()),
            "advantage": sample.advantage,
            "prompt": prompts[group],
            **_texts(tokens.split(sample.rollout.token_ids)),
            "response_tokens": sample.rollout.own_tokens,
            **_trace(traces.get(sample.key), sample.rollout),
        }
        for group in groups
        for sample in group.samples
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _texts(texts: Sequence[str]) -> dict[str, Any]:
    return {"response": "".join(texts), "token_characters": np.fromiter(map(len, texts), np.int32)}


def _trace(trace: TokenTrace | None, rollout: Rollout) -> dict[str, Any]:
    if trace is None:
        return {}
    whole = np.full((len(TRACED), len(rollout.token_ids)), np.nan, np.float16)
    whole[:, rollout.own] = [getattr(trace, name) for name in TRACED]
    return {"update": trace.update, **dict(zip(TRACED, whole))}


def record_key(prefix: str, step: int, part: int = 0, parts: int = 1) -> str:
    """Key of a step's record, or of one of the parts that follow one another in it."""
    which = f".{part}-of-{parts}" if parts > 1 else ""
    return f"{prefix}/step-{step:06d}{which}.parquet".lstrip("/")


def store_record(table: pa.Table, store: ObjectStore, prefix: str, step: int, *, part: int = 0, parts: int = 1) -> None:
    """Store the table as parquet; a step that is repeated after a restart replaces its objects.

    Args:
        table: of a step, or a part of it.
        store: where to.
        prefix: of the lineage's records.
        step: of the loop.
        part: which part it is; the first removes those of a repeated step that was cut into another number of parts.
        parts: how many there are.
    """
    if not part:
        others = [info.key for info in store.list(record_key(prefix, step).removesuffix("parquet"))]
        for key in {*others} - {record_key(prefix, step, one, parts) for one in range(parts)}:
            store.delete(key)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
        store.put(record_key(prefix, step, part, parts), path)


def sample_rows(table: pa.Table, tokenizer: PreTrainedTokenizerBase, *, responses: int = 8) -> list[dict[str, Any]]:
    """The first group's first `responses` responses, as text."""
    rows = table.slice(0, responses).to_pylist()
    rows = [row for row in rows if (row["prompt_id"], row["draw"]) == (rows[0]["prompt_id"], rows[0]["draw"])]
    texts = tokenizer.batch_decode([row["token_ids"] for row in rows], skip_special_tokens=True)
    columns = ("step", "problem", "answer", "outcome", "explanation", "reward", "advantage", "finish_reason")
    return [
        {column: row[column] for column in columns} | {"tokens": len(row["token_ids"]), "response": text}
        for row, text in zip(rows, texts)
    ]
