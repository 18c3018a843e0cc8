"""vLLM for real: ranks that share a model, servers that are killed and come back. `make test-vllm` runs this."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from fipo.batch import Prompt
from fipo.rollout.engine import Sampling

pytest.importorskip("vllm")

VOCABULARY, CONTEXT, STOP = 64, 256, 1


def build(seed):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.08,
    )
    return Qwen3ForCausalLM(config).eval()


def prompts(count, tokens=12):
    rows = np.random.default_rng(0).integers(2, VOCABULARY, size=(count, tokens)).tolist()
    return [Prompt(id=f"{index:06x}", text="", token_ids=tuple(row), answer="") for index, row in enumerate(rows)]


@torch.no_grad()
def greedy(model, prompt, tokens):
    ids = list(prompt.token_ids)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == STOP:
            break
    return ids[len(prompt.token_ids) :]


def assert_greedy(engine, seed, version, count=6):
    model, asked = build(seed), prompts(count)
    engine.load_weights(model.named_parameters(), version)
    groups = engine.generate(asked, Sampling(group_size=1, max_response_tokens=12, temperature=0.0))
    for group in groups:
        assert group.rollouts[0].token_ids.tolist() == greedy(model, group.prompt, 12)
        assert group.rollouts[0].weight_version == version


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    build(0).save_pretrained(path)
    return str(path)


def kill_all(process):
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in tree:
        member.send_signal(signal.SIGKILL)
    process.wait()


def test_servers_are_lost_and_come_back(vllm_servers, folder, caplog):
    from fipo.rollout.served.engine import ServedVllmEngine

    processes: list[Any] = []
    with vllm_servers.running(folder, CONTEXT, 2, processes) as urls:
        engine = ServedVllmEngine(
            urls, model=folder, eos_token_id=STOP, context=CONTEXT, dtype=torch.float32, transfer="gloo",
            timeout_seconds=120.0, prompts_in_flight=2,
        )  # fmt: skip
        assert_greedy(engine, seed=1, version=1)

        # One dies while it generates: every prompt is answered all the same, with the same weights.
        killer = threading.Timer(0.3, kill_all, [processes[0]])
        killer.start()
        groups = engine.generate(prompts(48), Sampling(group_size=4, max_response_tokens=200))
        killer.join()
        assert "its prompts go to the others" in caplog.text
        assert [len(group.rollouts) for group in groups] == [4] * 48
        assert {rollout.weight_version for group in groups for rollout in group.rollouts} == {1}

        # New weights go to the one that is left.
        assert_greedy(engine, seed=2, version=2)

        # It is started again, at the same address, with the first weights; the next version reaches both.
        processes[0] = vllm_servers.restart(folder, CONTEXT, urls[0])
        assert_greedy(engine, seed=3, version=3)
        kill_all(processes[1])
        assert_greedy(engine, seed=4, version=4)
        engine.close()


@torch.no_grad()
def log_probs_by(model, prompt, rollout):
    """[tokens], of one plain pass."""
    ids = torch.tensor([[*prompt.token_ids, *rollout.token_ids.tolist()]])
    found = torch.log_softmax(model(ids).logits[0], dim=-1)[len(prompt.token_ids) - 1 : -1]
    return found.gather(-1, ids[0, len(prompt.token_ids) :, None])[:, 0].numpy()


def test_responses_go_on_under_new_weights(vllm_servers, folder):
    """Each token's log-prob is that of the version that sampled it, after all that stands before it."""
    from fipo.rollout.served.engine import ServedVllmEngine

    models = {version: build(version) for version in (1, 2)}
    with vllm_servers.running(folder, CONTEXT, 1) as urls:
        engine = ServedVllmEngine(
            urls, model=folder, eos_token_id=STOP, context=CONTEXT, dtype=torch.float32, transfer="gloo",
            timeout_seconds=120.0, prompts_in_flight=4, continues=True,
        )  # fmt: skip
        engine.load_weights(models[1].named_parameters(), 1)
        begun, groups = threading.Event(), []

        def generate():
            sampling = Sampling(group_size=2, max_response_tokens=200)
            groups.extend(engine.generate(prompts(24), sampling, progress=lambda *_: begun.set()))

        thread = threading.Thread(target=generate)
        thread.start()
        assert begun.wait(300)
        engine.load_weights(models[2].named_parameters(), 2)
        thread.join()
        engine.close()
    assert len(groups) == 24
    rollouts = [(group.prompt, rollout) for group in groups for rollout in group.rollouts]
    assert {version for _, rollout in rollouts for version in rollout.versions.tolist()} == {1, 2}
    assert any(rollout.later_versions is not None for _, rollout in rollouts)
    for prompt, rollout in rollouts:
        by_version = {version: log_probs_by(model, prompt, rollout) for version, model in models.items()}
        expected = np.where(rollout.versions == 1, by_version[1], by_version[2])
        np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-3)


PROGRAM = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {tests!r})
from test_vllm import CONTEXT, STOP, Sampling, build, greedy, prompts

dist.init_process_group("gloo")
rank = dist.get_rank()
{engine}
model, mine = build(1), prompts(5)[rank::2]
engine.load_weights(model.named_parameters(), 1)
groups = engine.generate(mine, Sampling(group_size=1, max_response_tokens=12, temperature=0.0))
assert [group.prompt for group in groups] == mine
assert [group.rollouts[0].token_ids.tolist() for group in groups] == [greedy(model, prompt, 12) for prompt in mine]
engine.close()
dist.barrier()  # the trainer's group is still there
"""


def run_on_two_ranks(tmp_path, engine, program_text=PROGRAM):
    program = tmp_path / "program.py"
    program.write_text(program_text.format(tests=str(Path(__file__).parent), engine=engine))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_two_ranks_with_vllm_beside_them_generate_their_own_prompts(folder, tmp_path, tensor_parallel):
    arguments = f"{folder!r}, eos_token_id=STOP, context=CONTEXT, dtype='float32', tensor_parallel={tensor_parallel}"
    run_on_two_ranks(tmp_path, f"from fipo.rollout.vllm import VllmEngine\nengine = VllmEngine({arguments})")


TAKING = """
import sys, time
import torch
import torch.distributed as dist
sys.path.insert(0, {tests!r})
from test_vllm import CONTEXT, STOP, Sampling, build, prompts
from fipo.distributed.bootstrap import World
from fipo.distributed.work_queue import taken

dist.init_process_group("gloo")
world = World(dist.get_rank(), 2, 0, torch.device("cpu"))
{engine}
sampling = Sampling(group_size=engine._slots // 4, max_response_tokens=24, seed=3)
asked = prompts(26)
engine.load_weights(build(1).named_parameters(), 1)

parts = engine.parts(asked, sampling, 2)
copies = 2 // engine.ranks_together
assert [len(part) for part in parts] == ([4, 4] + [1] * 18 if copies == 2 else [4] + [2] * 11), parts
assert sorted(place for part in parts for place in part) == list(range(26))
own = []
def on_group(group):
    own.append(group.prompt)
    if world.rank:
        time.sleep(0.5)  # a rank that is slow
mine = (parts[number] for number in taken(world, len(parts), engine.ranks_together))
found = engine.generate_parts(asked, mine, sampling, on_group=on_group)
assert sorted(own, key=asked.index) == [asked[place] for place in sorted(found)]
counts = world.gather(len(found))
assert sum(counts) == 26
assert counts == [13, 13] if copies == 1 else counts[0] > counts[1] + 4, counts

# Whoever has taken a prompt, and whatever else was under way: the same responses.
everyone = {{place: group for part in world.gather(found) for place, group in part.items()}}
if copies == 2:
    at_once = engine.generate(asked, sampling)
else:
    half = engine.generate(asked[world.rank :: 2], sampling)
    at_once = [world.gather(half)[place % 2][place // 2] for place in range(26)]
for place, group in enumerate(at_once):
    assert everyone[place].prompt == group.prompt
    for one, other in zip(everyone[place].rollouts, group.rollouts, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
engine.close()
dist.barrier()
"""


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_ranks_with_vllm_beside_them_take_prompts_from_one_queue(folder, tmp_path, tensor_parallel):
    arguments = f"{folder!r}, eos_token_id=STOP, context=CONTEXT, dtype='float32', tensor_parallel={tensor_parallel}"
    engine = f"from fipo.rollout.vllm import VllmEngine\nengine = VllmEngine({arguments})"
    run_on_two_ranks(tmp_path, engine, TAKING)


def test_two_ranks_share_a_server(vllm_servers, folder, tmp_path):
    arguments = "model=folder, eos_token_id=STOP, context=CONTEXT, dtype=torch.float32, transfer='gloo', rank=rank"
    with vllm_servers.running(folder, CONTEXT, 1) as urls:
        run_on_two_ranks(
            tmp_path,
            f"from fipo.rollout.served.engine import ServedVllmEngine\nfolder = {folder!r}\n"
            f"engine = ServedVllmEngine({urls!r}, {arguments})",
        )
