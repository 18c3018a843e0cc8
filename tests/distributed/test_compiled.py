"""Compiled layers give what the layers give; in the tests their graph runs as it is, for a compiler's time is long."""

import copy
import itertools
import shutil

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend

from fipo.config import Distributed
from fipo.distributed import packed_attention
from fipo.distributed.attention import use_packed_attention
from fipo.distributed.compiled import compilable, compile_layers
from fipo.distributed.memory import save_activation_memory
from fipo.distributed.token_log_probs import TokenLogProbs
from tests.models.families import build
from tests.models.test_families import some_rows, trained

CUDA = torch.device("cuda")


@pytest.fixture
def graphs(monkeypatch):
    """All that was compiled. Attention by length, which a GPU in bfloat16 has not, would be compiled anew for each."""
    monkeypatch.setattr(packed_attention, "_by_length", torch.compiler.disable(packed_attention._by_length))
    torch._dynamo.reset()
    return []


def backend(graphs):
    def compiled(graph, inputs):
        graphs.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    return compiled


def gradients(model, rows):
    model.zero_grad()
    log_probs = trained(TokenLogProbs(model, 1.0), rows)
    log_probs.sum().backward()
    return log_probs.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize(("family", "saving"), [("qwen3", False), ("qwen3", True), ("gemma2", False)])
def test_log_probs_and_gradients_stay_what_they_were(family, saving, graphs):
    model = build(family).train()
    use_packed_attention(model)
    save_activation_memory(model, Distributed(activation_checkpointing=saving))
    other = copy.deepcopy(model)
    assert compile_layers(other, backend=backend(graphs)) == ""
    compiled = len(graphs)
    assert compiled, "the trial has compiled them"
    for rows in (some_rows(model.config.vocab_size), some_rows(model.config.vocab_size)[1:]):
        (mine, ours), (theirs, plain) = gradients(other, rows), gradients(model, rows)
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-5)
        assert ours.keys() == plain.keys()
        for name, gradient in ours.items():
            torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-5, msg=name)
    assert len(graphs) == compiled, "rows of any lengths are one kind"


@pytest.mark.parametrize("adapter", [False, True])
def test_old_log_probs_come_from_the_graph_of_the_update(adapter, graphs):
    model = build("qwen3")
    model.get_input_embeddings().requires_grad_(not adapter)  # then nothing that has a gradient enters the first layer
    use_packed_attention(model)
    assert compile_layers(model, backend=backend(graphs)) == ""
    rows, compiled = some_rows(model.config.vocab_size), len(graphs)
    with torch.no_grad():
        old = trained(TokenLogProbs(model, 1.0), rows)
    new = trained(TokenLogProbs(model, 1.0), rows)
    assert torch.equal(new, old) and new.requires_grad and not old.requires_grad
    assert len(graphs) == compiled


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_nothing_has_moved_before_the_first_update_in_bfloat16(graphs):
    model = build("qwen3").bfloat16()
    use_packed_attention(model)
    rows = some_rows(model.config.vocab_size)
    before = trained(TokenLogProbs(model, 1.0), rows)
    assert compile_layers(model) == ""
    with torch.no_grad():
        old = trained(TokenLogProbs(model, 1.0), rows)
    assert not torch.equal(old, before), "the compiler rounds as the layers do: nothing would show"
    assert torch.equal(trained(TokenLogProbs(model, 1.0), rows), old)


def test_layers_that_give_something_else_without_gradient_stay_as_they_are(graphs):
    model = build("qwen3")
    use_packed_attention(model)
    rows, calls = some_rows(model.config.vocab_size), itertools.count(1)
    before = trained(TokenLogProbs(model, 1.0), rows)

    def drifting(graph, inputs):
        def drifted(one):  # lengths are outputs too
            is_real = isinstance(one, torch.Tensor) and one.is_floating_point()
            return one + 1e-4 * next(calls) if is_real else one

        def call(*arguments):
            return [drifted(one) for one in graph(*arguments)]

        return call

    assert "rounds elsewhere" in compile_layers(model, backend=drifting)
    assert torch.equal(trained(TokenLogProbs(model, 1.0), rows), before)


def test_generation_goes_the_layers_own_way(graphs):
    model = build("qwen3").eval()
    use_packed_attention(model)
    prompt = torch.arange(3, 9)[None]
    before = model.generate(prompt, max_new_tokens=5, do_sample=False)
    compile_layers(model, backend=backend(graphs))
    compiled = len(graphs)
    assert torch.equal(model.generate(prompt, max_new_tokens=5, do_sample=False), before)
    assert len(graphs) == compiled


def test_what_the_compiler_cannot_do_the_layers_do_themselves():
    model = build("qwen3")
    use_packed_attention(model)
    rows = some_rows(model.config.vocab_size)
    before = trained(TokenLogProbs(model, 1.0), rows)

    def broken(graph, inputs):
        raise RuntimeError("no kernel for this")

    assert "no kernel for this" in compile_layers(model, backend=broken)
    assert torch.equal(trained(TokenLogProbs(model, 1.0), rows), before)
    assert all(one.grad is None for one in model.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"activation_checkpointing": True, "zero_stage": 2}, True),
        ({"compile_layers": False}, False),
        ({"zero_stage": 3}, False),
        ({"tiled_mlp": True}, False),
        ({"sequence_parallel": 2}, False),
    ],
)
def test_layers_inside_of_which_ranks_meet_are_not_compiled(settings, expected):
    assert compilable(Distributed(**settings), CUDA) is expected
    assert not compilable(Distributed(**settings), torch.device("cpu"))
