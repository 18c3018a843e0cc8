"""What a step sampled, as a table: parquet keeps all of it, a few rows are for reading."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from fipo.batch import RolloutGroup
from fipo.storage import ObjectStore

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("prompt_id", pa.string()),
        ("source", pa.string()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_index", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("rollout_log_probs", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("weight_version", pa.int64()),
        ("grader", pa.string()),
        ("outcome", pa.string()),
        ("explanation", pa.string()),
        ("accuracy", pa.float32()),
        ("reward", pa.float32()),
        ("reward_components", pa.map_(pa.string(), pa.float32())),
        # Null where the response was not trained on.
        ("advantage", pa.float32()),
    ]
)
"""One row a response."""

Advantages = Mapping[tuple[str, int], float]
"""Of the responses that are trained on, by prompt id and response index."""


def record_table(step: int, groups: Sequence[RolloutGroup], advantages: Advantages) -> pa.Table:
    """One row for each response of graded groups."""
    rows = [
        {
            "step": step,
            "prompt_id": group.prompt.id,
            "source": group.prompt.source,
            "problem": group.prompt.text,
            "answer": group.prompt.shown_answer,
            "prompt_token_ids": group.prompt.token_ids,
            "response_index": index,
            "token_ids": rollout.token_ids,
            "rollout_log_probs": rollout.log_probs,
            "finish_reason": str(rollout.finish_reason),
            "weight_version": rollout.weight_version,
            "grader": group.prompt.grader,
            "outcome": str(score.outcome),
            "explanation": score.explanation,
            "accuracy": score.accuracy,
            "reward": score.reward,
            "reward_components": list(score.components.items()),
            "advantage": advantages.get((group.prompt.id, index)),
        }
        for group in groups
        for index, (rollout, score) in enumerate(zip(group.rollouts, group.scores, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def store_record(table: pa.Table, store: ObjectStore, key: str) -> None:
    """Store the table as parquet; a step that is repeated after a restart replaces its object."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.parquet"
        pq.write_table(table, path, compression="zstd")
        store.put(key, path)


def sample_rows(table: pa.Table, tokenizer: PreTrainedTokenizerBase, *, responses: int = 8) -> list[dict[str, Any]]:
    """The first prompt's first `responses` responses, as text."""
    first = table.slice(0, responses)
    rows = first.filter(pc.equal(first["prompt_id"], first["prompt_id"][0])).to_pylist()
    texts = tokenizer.batch_decode([row["token_ids"] for row in rows], skip_special_tokens=True)
    columns = ("step", "problem", "answer", "outcome", "explanation", "reward", "advantage", "finish_reason")
    return [
        {column: row[column] for column in columns} | {"tokens": len(row["token_ids"]), "response": text}
        for row, text in zip(rows, texts)
    ]
