"""The plan's figures: by hand for Qwen2.5-7B, beside what autograd keeps, and beside a training process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from fipo.cli import main
from fipo.config import Lora, Model, load_config
from fipo.distributed.attention import use_packed_attention
from fipo.errors import ConfigError
from fipo.models.lora import add_adapter
from fipo.planning.hardware import GPUS, assume
from fipo.planning.memory import Layout, cache_bytes, layer_bytes, memory_of
from fipo.planning.model import shape_of
from fipo.planning.plan import Hardware, advise, make_plan
from fipo.planning.timing import Engines, Workload, forward_flops, step_time

QWEN_7B = {
    "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
}  # fmt: skip
QWEN_32B = QWEN_7B | {
    "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
    "num_key_value_heads": 8,
}  # fmt: skip
QWEN_1_5B = QWEN_7B | {
    "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
    "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
PARAMETERS = 7_615_616_512
GIB = 2**30
PLAIN = [
    "distributed.activation_checkpointing=false", "distributed.tiled_mlp=false", "distributed.zero_stage=3",
    "rollout.engine=transformers",
]  # fmt: skip


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(QWEN_7B))
    return path


@pytest.fixture(scope="module")
def shape(model_file):
    return shape_of(Model(name_or_path="anything"), model_file)


def plan(shape, *settings, nodes=1, gpus=8, gpu="h100", recipe="paper-7b", assumed=()):
    hardware = Hardware(GPUS[gpu], nodes, gpus, 1, assume(GPUS[gpu], assumed)[1])
    return make_plan(load_config(recipe, [*PLAIN, *settings]), shape, hardware)


def test_parameters_of_qwen_7b(shape):
    attention = 2 * 3584 * 3584 + 2 * 3584 * 512 + 3584 + 2 * 512
    layer = attention + 3 * 3584 * 18944 + 2 * 3584
    assert 2 * 152064 * 3584 + 28 * layer + 3584 == PARAMETERS
    assert shape.parameters == PARAMETERS
    assert shape.matrix_parameters == PARAMETERS - 152064 * 3584
    assert not shape.query_key_norm


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [  # bytes a parameter, on 8 ranks
        (0, 2, 2, 12),
        (1, 2, 4 + 2, 12 / 8),
        (2, 2, 4 / 8, 12 / 8),
        (3, 2 / 8, 4 / 8, 12 / 8),
    ],
)
def test_states_of_7b_in_bf16_on_8_ranks(shape, stage, weights, gradients, optimizer):
    memory = plan(shape, f"distributed.zero_stage={stage}").memory
    assert memory.weights == weights * PARAMETERS
    assert memory.gradients == gradients * PARAMETERS
    assert memory.optimizer == optimizer * PARAMETERS


def test_zero_3_of_7b_in_bytes(shape):
    memory = plan(shape).memory
    assert memory.weights == 1_903_904_128
    assert memory.optimizer == 11_423_424_768
    assert memory.buffers == 2 * (500_000_000 + 1_000_000_000)
    assert plan(shape, "distributed.zero_stage=1").memory.buffers == 4 * 500_000_000
    assert plan(shape, "distributed.zero_stage=0").memory.buffers == 2 * 500_000_000
    assert memory.rollout == 15_231_233_024  # a whole copy to generate with


def test_offload_moves_states_to_the_host(shape):
    optimizer = plan(shape, "distributed.offload=optimizer").memory
    assert (optimizer.optimizer, optimizer.gradients) == (0, 0)
    assert optimizer.host == (12 + 4) / 8 * PARAMETERS
    everything = plan(shape, "distributed.offload=parameters").memory
    assert everything.states == 0
    assert everything.host == (12 + 4 + 2) / 8 * PARAMETERS


def test_activations_of_7b(shape):
    """Two norms of 8 bytes a channel, 3 queries, 2 keys/values and 4 feed-forward channels of 2 bytes each."""
    layer = 2 * 8 * 3584 + 2 * (3 * 3584 + 2 * 512) + 2 * 4 * 18944
    assert layer_bytes(shape, 2) == layer == 232_448
    final = 3584 * (4 + 3 * 2)
    assert plan(shape).memory.activations == 32768 * (28 * layer + final)
    kept = plan(shape, "distributed.activation_checkpointing=true").memory.activations
    assert kept == 32768 * (28 * 2 * 3584 + layer + final)
    shared = plan(shape, "distributed.sequence_parallel=4").memory.activations
    assert shared == 32768 / 4 * (28 * layer + final)
    tiled = plan(shape, "distributed.tiled_mlp=true").memory.activations
    assert tiled == 32768 * (28 * (layer - 8 * 18944) + final) + 3584 * 8 * 18944


def test_logits_of_7b(shape):
    """By Triton's kernels in either precision on a GPU, as torch does it on cores; with the head's gradient."""
    head, hidden = 152064 * 3584, 32768 * 3584 * 4
    assert plan(shape).memory.logits == 2**28 * (4 + 2) + hidden + head * 2
    assert plan(shape, "distributed.precision=fp32").memory.logits == 2**28 * (4 + 4) + hidden + head * 4
    on_cores = Layout.of(load_config("paper-7b", [*PLAIN]), shape, 8, on_gpu=False)
    assert memory_of(shape, on_cores, load_config("paper-7b", [*PLAIN])).logits == 100_000_000 * 8 + head * 4


def test_cache_of_7b(shape):
    assert cache_bytes(shape, 2) == 57_344  # 28 layers x 2 x 4 heads x 128 x 2 bytes
    assert plan(shape).memory.cache == 65536 * 57_344 + 5 * 152064 * (2 + 4 + 4 + 8)


def test_vllm_takes_its_share_and_gives_it_back(shape):
    memory = plan(shape, "rollout.engine=vllm", "rollout.gpu_memory_fraction=0.6").memory
    assert memory.rollout + memory.cache == pytest.approx(0.6 * 79 * GIB)
    assert memory.phases["generation"] == pytest.approx(memory.states + 0.6 * 79 * GIB)
    assert memory.phases["forward and backward"] == plan(shape).memory.phases["forward and backward"]
    assert plan(shape, "rollout.engine=served").memory.phases["generation"] == memory.states


def test_an_adapter_of_7b(model_file):
    """Rank 32 on the seven matrices of each of 28 layers: its parameters alone have gradients and moments."""
    shape = shape_of(Model(name_or_path="anything", lora=Lora(rank=32)), model_file)
    matrices = [(3584, 3584), (3584, 512), (3584, 512), (3584, 3584), (3584, 18944), (3584, 18944), (18944, 3584)]
    adapter = 28 * 32 * sum(a + b for a, b in matrices)
    assert (shape.parameters, shape.adapter_parameters, shape.adapter_channels) == (PARAMETERS, adapter, 28 * 7 * 32)
    memory = plan(shape, "distributed.zero_stage=1").memory
    assert memory.weights == 2 * (PARAMETERS + adapter)
    assert memory.gradients == 6 * adapter and memory.optimizer == 12 * adapter / 8
    assert memory.buffers == 4 * adapter
    assert memory.logits == 2**28 * (4 + 2) + 32768 * 3584 * 4, "the head has no gradient"
    full = plan(replace(shape, adapter_parameters=0), "distributed.zero_stage=1")
    lora = plan(shape, "distributed.zero_stage=1")
    # Forward and two backward products, or forward and one; the head's logits again in both.
    again = lora.time.old_log_probs * 2 * 152064 * 3584 / (2 * shape.matrix_parameters)
    assert 1.0 < (full.time.updates - again) / (lora.time.updates - again) < 1.6
    few = shape_of(Model(name_or_path="anything", lora=Lora(rank=8, targets=("q_proj", "v_proj"))), model_file)
    assert few.adapter_parameters == 28 * 8 * (3584 + 3584 + 3584 + 512)


@pytest.mark.parametrize(("recipe", "gpu", "sizes"), [("lora/24gb", "l4", QWEN_1_5B), ("lora/80gb", "h100", QWEN_7B)])
def test_the_adapters_recipes_fit_on_one_gpu_and_all_weights_would_not(recipe, gpu, sizes, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(sizes))
    hardware = Hardware(GPUS[gpu], 1, 1, 1, assume(GPUS[gpu], [])[1])
    config = load_config(recipe)
    assert make_plan(config, shape_of(config.model, path), hardware).fits
    config = load_config(recipe, ["model.lora=null"])
    assert not make_plan(config, shape_of(config.model, path), hardware).fits


@pytest.mark.parametrize("lora", [None, Lora(rank=8)])
@pytest.mark.parametrize("family", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_keeps_what_autograd_keeps(family, dtype, lora):
    sizes = {"vocab_size": 8, "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 8, "head_dim": 16}
    sizes |= {"num_key_value_heads": 2, "tie_word_embeddings": False}

    def kept(layers):
        model = AutoModelForCausalLM.from_config(family(**sizes, num_hidden_layers=layers))
        if lora:
            add_adapter(model, lora, seed=0)
        model.to(dtype)
        use_packed_attention(model)
        parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        storages = {}

        def pack(tensor):
            if tensor.untyped_storage().data_ptr() not in parameters:
                storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        ends = torch.tensor([0, 64], dtype=torch.int32)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.model(
                input_ids=torch.zeros((1, 64), dtype=torch.int64), position_ids=torch.arange(64)[None],
                attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool), use_cache=False, cu_seq_lens_q=ends,
                cu_seq_lens_k=ends, max_length_q=64, max_length_k=64,
            )  # fmt: skip
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) / 64

    config = family(**sizes, num_hidden_layers=1)
    path_shape = shape_of_config(config)
    if lora:  # seven matrices in a layer
        path_shape = replace(path_shape, adapter_parameters=1, adapter_channels=7 * lora.rank * path_shape.layers)
    # Beside: inverse norms, the attention's normaliser and indices, of a few bytes a token and head.
    assert kept(3) - kept(2) == pytest.approx(layer_bytes(path_shape, dtype.itemsize), rel=0.025)


def shape_of_config(config):
    heads = config.num_attention_heads * config.head_dim
    base = shape_of(load_config("demo").model)
    return replace(
        base, hidden_size=config.hidden_size, intermediate_size=config.intermediate_size, query_size=heads,
        key_value_size=config.num_key_value_heads * config.head_dim, query_key_norm=isinstance(config, Qwen3Config),
    )  # fmt: skip


def test_operations_by_hand(shape):
    matrices = PARAMETERS - 152064 * 3584
    # One row of 1,000 tokens: 4 operations a channel of the queries for each of 1,000 x 1,000 / 2 pairs, 28 layers.
    assert forward_flops(shape, 1000, 1, 1000) == 2 * matrices * 1000 + 4 * 28 * 3584 * 1000 * 1000 / 2


def test_time_by_hand(shape):
    """A peak and bandwidths of powers of ten, with nothing lost, so that each phase is one product."""
    gpu, assumptions = assume(
        GPUS["h100"],
        ["peak_flops=1e15", "memory_bandwidth=1e12", "link_bandwidth=1e11", "mfu=1", "decode_efficiency=1",
         "network_efficiency=1", "signal_fraction=1", "prompt_tokens=24", "response_fraction=0.1"],
    )  # fmt: skip
    config = load_config("paper-7b", [*PLAIN, "distributed.zero_stage=1"])
    layout = Layout.of(config, shape, 8)
    work = Workload.of(config, layout, assumptions)
    assert (work.responses_trained, work.row, work.updates) == (512 * 32, 1048, 8)
    engines = Engines(count=8, gpus=1, cache_tokens=1e12, continuous=True)
    time = step_time(shape, layout, work, config, gpu, assumptions, nodes=1, engines=engines)
    matrices, rows = PARAMETERS - 152064 * 3584, 512 * 32
    forward = (2 * matrices * rows * 1048 + 2 * 28 * 3584 * rows * 1048**2) / 8
    assert time.old_log_probs == pytest.approx(forward / 1e15)
    again, step = 2 * 152064 * 3584 * rows * 1048 / 8, 28 * PARAMETERS / 8
    assert time.updates == pytest.approx((3 * forward + again) / 1e15 + 8 * step / 1e12)
    # 2,048 responses an engine all fit: as many steps as the longest row leaves, and the keys and values of 24 + 512.
    steps, cache = 2048 + 10240 - 24, 2048 * 1024 * (24 + 512) * 57_344
    assert time.generation == pytest.approx((steps * 2 * matrices + cache) / 1e12)
    # 8.2 micro-batches a rank and update, rounded up; a ring sends 2 x 7/8 of the gradient, and 7/8 of the weights.
    sent = 8 * (9 * 2 + 1) * 7 / 8 * 2 * PARAMETERS
    assert time.communication == pytest.approx(sent / 1e11)
    assert time.weight_sync == 0


def test_advice_is_needed_and_suffices(shape):
    def change(more):
        return load_config("paper-7b", [*PLAIN, "distributed.zero_stage=1", *more])

    hardware = Hardware(GPUS["h100"], 1, 8, 1, assume(GPUS["h100"], [])[1])
    first = make_plan(change([]), shape, hardware)
    assert not first.fits
    assert "forward and backward" in first.problem
    advice = advise(change, first)
    assert advice and advice.plan.fits
    for needed in advice.changes:
        assert not make_plan(change([other for other in advice.changes if other != needed]), shape, hardware).fits


def test_more_nodes_are_proposed_where_settings_do_not_suffice(shape):
    def change(more):
        return load_config("paper-7b", [*PLAIN, "rollout.engine=served", "rollout.tensor_parallel=8", *more])

    hardware = Hardware(GPUS["l40s"], 1, 8, 1, assume(GPUS["l40s"], [])[1])
    large = replace(shape, parameters=70 * 10**9)
    first = make_plan(change(["distributed.offload=none"]), large, hardware)
    assert not first.fits
    advice = advise(lambda more: change([one for one in more if "offload" not in one]), first)
    assert advice and advice.plan.hardware.nodes > 1


def test_a_short_context_is_pointed_out(shape):
    assert plan(shape).note == ""
    short = plan(replace(shape, context=4096))
    assert short.layout.longest_row == 4096
    assert "4,096" in short.note
    assert "12,288" in short.note


def test_cost_is_time_times_gpus_times_price(shape):
    planned = plan(shape, nodes=2)
    assert planned.step_cost == pytest.approx(planned.time.total / 3600 * 16 * 2.8)


def test_the_command_prints_a_plan(capsys, model_file):
    sets = [part for setting in PLAIN for part in ("--set", setting)]
    main(["plan", "paper-7b", "--nodes", "4", "--model-config", str(model_file), *sets])
    printed = " ".join(capsys.readouterr().out.split())
    assert "7.62B parameters" in printed
    assert "Does not fit: forward and backward needs" in printed
    assert "It fits with --set distributed.activation_checkpointing=true" in printed


@pytest.mark.parametrize(
    ("arguments", "machines"),
    [
        ([], "4 x 8 GPUs"),
        (["--set", "trainjob.nodes=3", "--set", "trainjob.gpus_per_node=4"], "3 x 4 GPUs"),
        (["--set", "trainjob.gpus_per_node=0", "--set", "distributed.processes=2"], "4 x 2 GPUs"),
        (["--nodes", "2", "--gpus", "1"], "2 x 1 GPUs"),
    ],
)
def test_the_plan_is_for_the_machines_of_the_recipes_job(capsys, model_file, arguments, machines):
    main(["plan", "paper-7b", "--model-config", str(model_file), *arguments])
    assert f"on {machines}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("recipe", ["paper-7b", "paper-32b"])
def test_the_papers_recipes_fit_on_the_machines_that_they_ask_for(recipe, tmp_path):
    config, path = load_config(recipe), tmp_path / "config.json"
    path.write_text(json.dumps(QWEN_7B if recipe == "paper-7b" else QWEN_32B))
    machines = config.trainjob
    hardware = Hardware(GPUS["h100"], machines.nodes, machines.gpus_per_node, 1, assume(GPUS["h100"], [])[1])
    planned = make_plan(config, shape_of(config.model, path), hardware)
    assert planned.fits
    assert planned.time.total * config.train.steps < config.trainjob.time_limit_seconds


def test_without_arguments_the_plan_is_for_this_machine(capsys, monkeypatch, tmp_path):
    cores = len(os.sched_getaffinity(0))
    main(["plan"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"demo: 526,720 parameters, on {cores} cores without a GPU, " in printed
    assert f"GFLOP/s, {min(cores, 4)} process(es), " in printed
    assert "Fits." in printed and "$" not in printed
    main(["plan", "--set", "distributed.processes=1", "--set", "distributed.precision=bf16"])
    assert "GFLOP/s in bf16, 1 process(es), " in " ".join(capsys.readouterr().out.split())

    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA L40S, 46068\necho NVIDIA L40S, 46068\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    main(["plan"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "on 2 NVIDIA L40S, 45 GiB each, ZeRO-1" in printed and "$" in printed
    main(["plan", "--gpus", "1"])
    assert "on 1 x 1 GPUs, " in " ".join(capsys.readouterr().out.split())


def test_no_more_is_drawn_than_the_rounds_allow(shape):
    def work(*settings):
        return plan(shape, "train.prompts_per_step=64", "train.mini_batch_prompts=8", *settings).work

    # Half of the groups have a signal: twice as many are drawn, where two rounds may be.
    group = load_config("paper-7b").rollout.group_size
    twice, once = work("train.max_generation_rounds=2"), work("train.max_generation_rounds=1")
    assert (twice.responses_sampled, twice.responses_trained, twice.updates) == (128 * group, 64 * group, 8)
    assert (once.responses_sampled, once.responses_trained, once.updates) == (64 * group, 32 * group, 4)


def test_a_pipe_is_no_model_config(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="expected a file"):
        shape_of(Model(name_or_path="anything"), tmp_path / "config.json")


def test_the_command_answers_in_json(capsys):
    main(["plan", "demo", "--json", "--gpus", "1", "--assume", "price_per_hour=3.6"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["fits"]
    assert answer["step_cost"] == pytest.approx(answer["seconds"]["total"] / 1000)
    assert answer["memory"]["peak"] == max(answer["memory"]["phases"].values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--assume", "speed=3"], "mfu"),
        (["--assume", "mfu=fast"], "positive number"),
        (["--model-config", "/nowhere/config.json"], "/nowhere/config.json"),
        (["--set", "rollout.group_size=1"], "rollout.group_size"),
    ],
)
def test_bad_input_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "demo", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_model_that_cannot_be_reached_names_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="--model-config FILE"):
        shape_of(Model(name_or_path="nobody/no-such-model"))


@pytest.mark.slow
def test_memory_is_what_training_takes():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.planning", "--json", "--case", "layers"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["largest_error"] < 0.15
