"""`python -m tests.models.survey [KIND ...]`: every kind of causal language model that transformers has, made tiny, and
what trainer and embedded engine make of it. docs/models.md has the sums."""

import copy
import logging
import resource
import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fipo.batch import Prompt
from fipo.distributed.attention import use_packed_attention
from fipo.distributed.token_log_probs import TokenLogProbs
from fipo.errors import FipoError
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.comparisons import ENGINE_LIMIT_FLOAT32, OWN_LIMIT
from fipo.training.rows import Row
from tests.models.test_families import TEMPERATURE, some_rows, trained

TINY = {
    96: "vocab_size vocab_size_per_layer_input",
    32: """hidden_size hidden_size_global d_model n_embd emb_dim embed_dim embedding_size attention_hidden_size
        lru_width shared_expert_intermediate_size adapter_in_dim adapter_out_dim adapter_input_size
        input_embedding_size""",
    48: """intermediate_size ffn_dim d_ff dim_ff encoder_ffn_dim decoder_ffn_dim moe_intermediate_size
        expert_ffn_hidden_size ffn_hidden_size dense_intermediate_size intermediate_size_mlp d_inner
        feed_forward_size""",
    2: """num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers depth
        num_decoder_layers num_key_value_heads num_experts_per_tok num_experts_per_token moe_topk moe_k num_kv_heads
        swa_num_key_value_heads linear_num_key_heads""",
    4: """num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_experts
        num_encoder_attention_heads num_decoder_attention_heads n_routed_experts num_local_experts moe_num_experts
        linear_num_heads linear_num_value_heads swa_num_attention_heads""",
    8: """linear_head_dim head_dim kv_channels qk_nope_head_dim qk_rope_head_dim v_head_dim linear_key_head_dim
        linear_value_head_dim swa_head_dim attention_head_dim dim_head index_head_dim rotary_dim mamba_d_head
        mamba_head_dim mamba_n_heads mamba_num_heads n_mamba_heads hidden_size_per_layer_input d_kv time_step_rank
        mamba_dt_rank""",
    16: "kv_lora_rank q_lora_rank o_lora_rank qk_head_dim mamba_d_state state_size ssm_state_size index_topk",
    1: """n_group topk_group n_groups mamba_n_groups num_mem_blocks n_shared_experts num_shared_experts
        num_expert_group first_k_dense_replace num_nextn_predict_layers""",
    128: "max_position_embeddings n_positions max_source_positions max_target_positions context_length",
    64: "image_size",
}
"""What a whole number of that name is made, whatever the kind."""
NAMES = {name: value for value, names in TINY.items() for name in names.split()}
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
MORE = {"is_decoder": True, "use_mamba_kernels": False, "mamba_n_heads": 8, "mamba_d_head": 8}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0}, "max_seq_len": 128},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note_text": {
        "per_layer_config": {}, "head_dim": 16, "index_n_heads": 4, "shared_experts_intermediate_size": 48,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3": {"mm_tokens_per_image": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "shared_intermediate_size": 48},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 8},
    "moshi": {"audio_vocab_size": 96},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16,
        "indexer_compress_ratio": 2, "ngram_vocab_size_base": 97, "hc_lowrank": 8,
    },
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 8},
    "reformer": {
        "is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"], "attention_head_size": 8,
        "lsh_num_chunks_after": 0,
    },
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 2,
        "num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    },
    "zaya": {"num_experts_per_tok": 1},
    "zamba2": {
        "mamba_headdim": 8, "attention_head_dim": 16, "attention_hidden_size": 64, "num_query_groups": 4,
        "hybrid_layer_ids": [1], "use_mem_rope": False,
    },
}  # fmt: skip
"""Settings of kinds that the others do not suit."""


def tiny(cls):
    """A configuration whose model has a few thousand weights; other settings are the class's own."""
    try:
        default = cls()
    except Exception:  # one that must be told of its parts
        default = None
    known = default.to_dict() if default else {}
    parts = {name: getattr(default, name, None) for name in cls.sub_configs or {}}
    settings = {name: tiny(type(part)).to_dict() for name, part in parts.items() if part is not None}
    settings |= {name: value for name, value in NAMES.items() if type(known.get(name)) is int}
    settings |= TOKENS if "vocab_size" in known else {}
    if "kv_lora_rank" in known:
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    for name in ("layer_types", "mlp_layer_types", "layers_block_type"):
        if isinstance(kinds := known.get(name), list):
            settings[name] = (list(dict.fromkeys(kinds)) * 2)[:2]
    settings |= {name: value for name, value in MORE.items() if name in known}
    return cls(**settings | OWN.get(cls.model_type, {}))


def build(kind):
    config = tiny(CONFIG_MAPPING[kind])
    with torch.device("meta"):
        count = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    assert count < 60e6, f"{count:,} weights"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.15)
    return model


@torch.no_grad()
def expected(model, row):
    """[response] log-probs by transformers alone, of one row without a cache."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
    logits = model(input_ids=ids, use_cache=False).logits[0].double() / TEMPERATURE
    start = len(row.prompt_ids)
    return torch.log_softmax(logits, dim=-1)[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0]


def gap(ours, theirs):
    return float((torch.as_tensor(ours).detach().double() - theirs).abs().mean())


def survey(kind):
    """(what comes of the trainer, of the engine), in a word each, and the figures."""
    try:
        model = build(kind)
    except Exception as error:
        return "not made", "", f"{type(error).__name__}: {error}"
    rows = some_rows(model.config.get_text_config().vocab_size)
    reference = copy.deepcopy(model)
    try:
        theirs = torch.cat([expected(reference, row) for row in rows])
    except Exception as error:
        return "not asked", "", f"{type(error).__name__}: {error}"
    try:
        packed = use_packed_attention(model)
        apart = gap(trained(TokenLogProbs(model, TEMPERATURE), rows), theirs)
    except Exception as error:
        return "refused" if isinstance(error, FipoError) else "raises", "", f"{type(error).__name__}: {error}"
    trainer = ("packed" if packed else "padded") if apart < OWN_LIMIT[torch.float32] else "off"
    try:
        engine = TransformersEngine(model, eos_token_id=1, pad_token_id=0, max_batch_tokens=4096)
        prompts = [Prompt(str(length), "", tuple(range(5, 5 + length)), "") for length in (2, 15)]
        groups = engine.generate(prompts, Sampling(group_size=2, max_response_tokens=14, temperature=TEMPERATURE))
        gaps = [
            gap(one.log_probs, expected(reference, Row(group.prompt.token_ids, one.token_ids)))
            for group in groups
            for one in group.rollouts
        ]
    except Exception as error:
        how = "refuses" if isinstance(error, FipoError) else "raises"
        return trainer, how, f"{apart:.1e}; {type(error).__name__}: {error}"
    return trainer, "right" if max(gaps) < ENGINE_LIMIT_FLOAT32 else "off", f"{apart:.1e}, {np.max(gaps):.1e}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    found: Counter[tuple[str, ...]] = Counter()
    for one in sys.argv[1:] or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        *said, why = survey(one)
        found[tuple(said)] += 1
        print(one, *said, why.replace("\n", " ")[:200], sep=" | ", flush=True)
    for said, count in found.most_common():
        print(count, *said)
