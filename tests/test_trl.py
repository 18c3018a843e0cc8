"""TRL's real trainer with FIPO's loss: the same loss and the same gradients as ours, and it trains."""

import copy
import warnings
from typing import Any

import pytest
import torch

trl = pytest.importorskip("trl")
from datasets import Dataset  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from fipo import LossOptions, fipo_loss  # noqa: E402
from fipo.config import Architecture, Model  # noqa: E402
from fipo.errors import ConfigError  # noqa: E402
from fipo.models import load_tokenizer  # noqa: E402
from fipo.trl import FipoTrainer  # noqa: E402

OPTIONS = LossOptions(half_life=3.0, influence_clip_low=0.3, influence_clip_high=0.4, safety_ratio=1.05, dual_clip=1.5)


def trainer_in(folder, options=OPTIONS, **settings):
    tokenizer = load_tokenizer(Model(architecture=Architecture(vocabulary=tuple("01234"))))
    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids: Any = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes, **ids))
    settings = {"num_iterations": 2, "max_steps": 4, "learning_rate": 1e-2, **settings}
    args = trl.GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **settings,
    )
    return FipoTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [float(text.count("1")) for text in completions],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["0 1", "2 3", "4 0", "1 1"] * 4}),
        processing_class=tokenizer,
        options=options,
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return trainer_in(tmp_path_factory.mktemp("trl"))


@pytest.fixture
def inputs():
    random = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 6, 2, 4])
    mask = (torch.arange(6) < lengths[:, None]).long()
    return {
        "prompt_ids": torch.randint(0, 5, (4, 3), generator=random),
        "prompt_mask": torch.ones(4, 3, dtype=torch.long),
        "completion_ids": torch.randint(0, 5, (4, 6), generator=random),
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5]),
        "num_items_in_batch": mask.sum().float(),
    }


def log_probs(trainer, inputs):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    return torch.gather(trainer.model(ids).logits[:, 2:-1].log_softmax(-1), 2, inputs["completion_ids"][..., None])[
        ..., 0
    ]


def gradients(trainer, loss):
    trainer.model.zero_grad()
    loss.backward()
    return torch.cat([each.grad.flatten() for each in trainer.model.parameters() if each.grad is not None])


@pytest.mark.parametrize("tools", [False, True])
def test_loss_and_gradients_are_ours(trainer, inputs, tools):
    """Old log-probs far enough away that both clips, the dual clip and the safety rule act."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    inputs["old_per_token_logps"] = log_probs(trainer, inputs).detach() + 0.4 * noise
    mask = inputs["completion_mask"].bool()
    if tools:
        inputs["tool_mask"] = torch.tensor([[1, 1, 0, 0, 1, 1]]).repeat(4, 1)
        mask = mask & inputs["tool_mask"].bool()
    before = inputs["advantages"].clone()
    theirs = trainer._compute_loss(trainer.model, inputs)
    their_gradients = gradients(trainer, theirs)
    output = fipo_loss(
        log_probs(trainer, inputs),
        inputs["old_per_token_logps"],
        before[:, None].expand(4, 6),
        mask,
        half_life=3.0,
        influence_clip_low=0.3,
        influence_clip_high=0.4,
        safety_ratio=1.05,
        dual_clip=1.5,
        num_loss_tokens=inputs["num_items_in_batch"],
        have_observations=tools,
    )
    acted = {name: value.item() for name, value in output.metrics.items() if name.endswith("_fraction")}
    assert all(acted[name] > 0 for name in ("dual_clip_fraction", "safety_fraction", "ratio_clip_high_fraction"))
    torch.testing.assert_close(theirs, output.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(their_gradients, gradients(trainer, output.loss), rtol=1e-4, atol=1e-6)
    assert torch.equal(inputs["advantages"], before), "the next iteration learns from the same advantages"


def test_it_trains_and_the_weights_leave_1_in_the_second_update(tmp_path):
    trainer = trainer_in(tmp_path, gradient_accumulation_steps=1)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    spreads = [entry["influence_weight/std"] for entry in trainer.state.log_history if "influence_weight/std" in entry]
    assert len(spreads) == 4 and spreads[0] == pytest.approx(0, abs=1e-6) and max(spreads[1], spreads[3]) > 1e-4
    assert any(not torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def test_one_update_a_generation_is_said_to_be_dapo(tmp_path):
    with pytest.warns(UserWarning, match="FIPO is DAPO"):
        trainer_in(tmp_path, num_iterations=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer_in(tmp_path)


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [({"loss_type": "grpo"}, OPTIONS, "loss_type: must be 'dapo'"),
     ({"importance_sampling_level": "sequence"}, OPTIONS, "importance_sampling_level"),
     ({}, LossOptions(loss="gspo"), "options.loss"), ({}, LossOptions(correction="mask"), "options.correction")],
)  # fmt: skip
def test_what_it_does_not_do_is_refused(tmp_path, settings, options, says):
    with pytest.raises(ConfigError, match=says):
        trainer_in(tmp_path, options, **settings)
