import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention

from fipo.config import Architecture, Model
from fipo.distributed import attention, packed_attention
from fipo.errors import ConfigError
from fipo.models import load_model

HEADS, KV_HEADS, SIZE = 4, 2, 8


def qkv(time, **options) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, time, SIZE, **options) for heads in (HEADS, KV_HEADS, KV_HEADS))
    return query, key, value


def starts(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


@pytest.mark.parametrize("lengths", [(1,), (5, 5, 5), (90, 3, 88, 1, 200, 70), (130, 120, 64, 30, 2, 1)])
def test_each_sequence_attends_to_itself_alone(lengths):
    """Values and gradients, against each sequence by itself: equal lengths, odd orders, and one that stands alone."""
    packed = qkv(sum(lengths), requires_grad=True)
    weights = torch.randn(1, sum(lengths), HEADS, SIZE)
    output, _ = packed_attention.packed_attention(
        nn.Identity(), *packed, None, scaling=0.3, cu_seq_lens_q=starts(lengths), max_length_q=max(lengths)
    )
    gradients = torch.autograd.grad((output * weights).sum(), packed)

    alone = qkv(sum(lengths), requires_grad=True)
    expected = torch.cat(
        [
            scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
            for q, k, v in zip(*(x.split(lengths, dim=2) for x in alone))
        ],
        dim=2,
    ).transpose(1, 2)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), alone)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


def test_similar_lengths_are_attended_together():
    assert packed_attention._buckets((100, 98, 60, 50, 5)) == [(100, 98), (60, 50, 5)]


def test_the_kernel_for_gpus_takes_what_it_is_given():
    """No kernel runs on fake tensors, but torch checks arguments and shapes of the call and of its backward pass."""
    with FakeTensorMode():
        q, k, v = (torch.empty(9, heads, SIZE, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2))
        for window in (None, 3):
            output = packed_attention._flash(q, k, v, torch.empty(3, dtype=torch.int32), 5, 0.3, window)
            assert output.shape == (9, HEADS, SIZE)


def test_models_with_other_attention_are_left_as_they_are():
    model = load_model(Model(architecture=Architecture(vocabulary=("a", "b"))))
    model.config.layer_types = ["full_attention", "chunked_attention"]
    before = model.config._attn_implementation
    assert not attention.use_packed_attention(model)
    assert model.config._attn_implementation == before and not attention.packs(model)


def test_what_a_model_raises_of_packed_rows_is_told(request, monkeypatch, caplog):
    """It trains on padded rows, and whoever wonders why it is slow finds the reason."""
    model = load_model(Model(architecture=Architecture(vocabulary=("a", "b"))))
    before = model.config._attn_implementation

    def fails(*_, **__):
        raise RuntimeError("a kernel that is not there")

    request.addfinalizer(lambda: attention.register_packed(attention.NAME, packed_attention.packed_attention))
    monkeypatch.setattr(attention, "packed_attention", fails)
    assert not attention.use_packed_attention(model)
    assert "takes no packed rows" in caplog.text and "a kernel that is not there" in caplog.text
    assert model.config._attn_implementation == before and not attention.packs(model)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 7, 600])
def test_windows_and_soft_caps(window, softcap):
    """Values and gradients of rows longer than a block, against scores that are written out."""
    lengths = (700, 40, 1)
    packed = qkv(sum(lengths), requires_grad=True)
    output, _ = packed_attention.packed_attention(
        nn.Identity(), *packed, None, scaling=0.9, sliding_window=window, softcap=softcap,
        cu_seq_lens_q=starts(lengths), max_length_q=max(lengths),
    )  # fmt: skip

    def plain(query, key, value):
        scores = 0.9 * query @ key.repeat_interleave(HEADS // KV_HEADS, dim=1).transpose(-1, -2)
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        ago = torch.arange(query.shape[2])[:, None] - torch.arange(query.shape[2])
        scores = scores.masked_fill((ago < 0) | (ago >= (window or 10_000)), -torch.inf)
        return scores.softmax(-1) @ value.repeat_interleave(HEADS // KV_HEADS, dim=1)

    alone = qkv(sum(lengths), requires_grad=True)
    parts = zip(*(x.split(lengths, dim=2) for x in alone))
    expected = torch.cat([plain(*part) for part in parts], dim=2).transpose(1, 2)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(output)
    torch.testing.assert_close(
        torch.autograd.grad((output * weights).sum(), packed),
        torch.autograd.grad((expected * weights).sum(), alone),
        rtol=1e-3,
        atol=1e-5,
    )


def test_attention_with_more_to_it_is_refused():
    with pytest.raises(ConfigError, match="s_aux"):
        packed_attention.packed_attention(
            nn.Identity(), *qkv(4), None, s_aux=torch.zeros(4), cu_seq_lens_q=starts((4,)), max_length_q=4
        )


def test_parity_counts_weights_and_channels():
    """A layer of width 8 with two heads of 4: q, k, v, o of 8 x 8 and three matrices of 8 x 16, over 8 channels."""
    architecture = Architecture(
        vocabulary=("a", "b"), hidden_size=8, intermediate_size=16, layers=3, attention_heads=2, key_value_heads=2
    )
    assert attention.attention_parity(load_model(Model(architecture=architecture))) == (4 * 64 + 3 * 128) / 8
