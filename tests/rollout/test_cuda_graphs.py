"""Steps of fixed shape give what steps of exact shape give; on a GPU they are captured and replayed."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import BartConfig, BartForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from fipo.batch import Prompt
from fipo.rollout import cuda_graphs, transformers
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SAMPLING = Sampling(group_size=3, max_response_tokens=60, seed=3)


def tiny(kind=Qwen3ForCausalLM, config=Qwen3Config, **settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = kind(config(vocab_size=50, num_key_value_heads=2, max_position_embeddings=600, **sizes, **settings))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def prompts_of(count, shortest=1, longest=12):
    random = np.random.default_rng(1)
    ids = [tuple(random.integers(2, 50, size=random.integers(shortest, longest)).tolist()) for _ in range(count)]
    return [Prompt(id=f"{index:08x}", text="", token_ids=tokens, answer="") for index, tokens in enumerate(ids)]


def generate(model, prompts, sampling=SAMPLING):
    engine = TransformersEngine(model, eos_token_id=range(2), pad_token_id=0, max_batch_tokens=1 << 16)
    return [rollout for group in engine.generate(prompts, sampling) for rollout in group.rollouts]


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=2e-5)


@pytest.fixture
def exact_shapes(monkeypatch):
    """What `generate` gives without fixed shapes."""

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(transformers, "can_be_captured", lambda model: False)
            return generate(*arguments)

    return run


@pytest.fixture
def uncaptured(monkeypatch):
    """Steps of fixed shape that are run again instead of replayed; counts the shapes that would be captured."""
    shapes = []

    def capture(step):
        shapes.append(step)
        return step

    monkeypatch.setattr(transformers, "can_be_captured", lambda model: True)
    monkeypatch.setattr(transformers, "FixedSteps", partial(cuda_graphs.FixedSteps, capture=capture))
    return shapes


class Tape(TorchDispatchMode):
    """A CUDA graph's stand-in: the operations of one step, done again on the same memory, with what the host said then.

    Reading a value on the host raises, as capturing does.
    """

    def __init__(self, step):
        super().__init__()
        self.done = []
        with self:
            self.output = step()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("called a synchronizing operation")
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def replay(self):
        now: dict[int, torch.Tensor] = {}  # what stands for a tensor of the recording

        def renewed(tree):
            return tree_map_only(torch.Tensor, lambda one: now.get(id(one), one), tree)

        for operation, args, kwargs, result in self.done:
            again = operation(*renewed(args), **renewed(kwargs))
            for old, new in zip(tensors(result), tensors(again), strict=True):
                now[id(old)] = new
        return now[id(self.output)]


def tensors(tree):
    return [one for one in (tree if isinstance(tree, (tuple, list)) else (tree,)) if isinstance(one, torch.Tensor)]


@pytest.fixture
def taped(monkeypatch):
    """Steps are recorded and replayed as on a GPU; holds those that were."""
    tapes = []

    def capture(step):
        step()
        tapes.append(Tape(step))
        return tapes[-1].replay

    monkeypatch.setattr(transformers, "can_be_captured", lambda model: True)
    monkeypatch.setattr(transformers, "FixedSteps", partial(cuda_graphs.FixedSteps, capture=capture))
    return tapes


@pytest.mark.parametrize(("shortest", "longest"), [(1, 12), (240, 250)])  # the second outgrows the first window
def test_steps_of_fixed_shape_give_the_same_responses(exact_shapes, uncaptured, shortest, longest):
    model, prompts = tiny(), prompts_of(7, shortest, longest)
    expected = exact_shapes(model, prompts)
    assert_alike(generate(model, prompts), expected)
    assert len({len(rollout.token_ids) for rollout in expected}) > 5, "rows end at different times, and are moved"
    assert 1 < len(uncaptured) < 10, "few shapes"


@pytest.mark.parametrize(("shortest", "longest"), [(1, 12), (240, 250)])
def test_steps_that_are_replayed_give_the_same_responses(exact_shapes, taped, shortest, longest):
    model, prompts = tiny(), prompts_of(7, shortest, longest)
    assert_alike(generate(model, prompts), exact_shapes(model, prompts))
    assert 1 < len(taped) < 10


def test_a_step_whose_kernels_depend_on_values_is_run_again(exact_shapes, taped):
    model, prompts = tiny(MixtralForCausalLM, MixtralConfig, num_local_experts=4), prompts_of(4)
    model.set_experts_implementation("eager")
    assert_alike(generate(model, prompts), exact_shapes(model, prompts))
    assert not taped


def test_a_model_that_counts_on_the_host_is_not_replayed(exact_shapes, taped):
    """BART's decoder takes its positions from the cache's length, which a recording holds as it was."""
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=50,
        max_position_embeddings=600,
        is_decoder=True,
        is_encoder_decoder=False,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
    )
    model, prompts = BartForCausalLM(config), prompts_of(5)
    assert_alike(generate(model, prompts), exact_shapes(model, prompts))
    assert len(taped) == 1, "was recorded, and given up"


def test_what_memory_held_before_is_not_read(exact_shapes, uncaptured, monkeypatch):
    model, prompts = tiny(), prompts_of(4)
    expected = exact_shapes(model, prompts)
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **kw: empty(*args, **kw).fill_(torch.nan))
    assert_alike(generate(model, prompts), expected)


def test_a_cpu_and_parameters_in_parts_are_not_captured():
    model = tiny()
    assert cuda_graphs.can_be_captured(model) is torch.cuda.is_available()
    next(model.parameters()).ds_id = 0  # as ZeRO-3 marks them
    assert not cuda_graphs.can_be_captured(model)


@needs_gpu
def test_replayed_steps_give_the_same_responses(exact_shapes):
    model, prompts = tiny(), prompts_of(9)
    assert_alike(generate(model, prompts), exact_shapes(model, prompts))


@needs_gpu
def test_a_model_that_looks_at_values_is_not_captured(exact_shapes):
    model, prompts = tiny(MixtralForCausalLM, MixtralConfig, num_local_experts=4), prompts_of(4)
    model.set_experts_implementation("eager")
    assert_alike(generate(model, prompts), exact_shapes(model, prompts))
    with pytest.raises(RuntimeError, match="synchronizing"):
        cuda_graphs.captured(lambda: torch.ones(1, device="cuda").nonzero())
