"""The large model families of transformers, routed: what is expected is written from the definitions of their architectures.

Of each family stand here the tensors of two or more dimensions that are no hidden matrix, and the hidden matrices that are
not read as they are stored.  Every other one must be a plain hidden matrix, and every vector must be in the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the families are those of transformers")

import transformers

from thalweg.routing import Routes, route


@dataclass(frozen=True)
class Family:
    """A model class with a tiny config, and its parameters that are not plain hidden matrices, by template of the name."""

    model: str
    config: Any
    rest: str
    read: dict[str, dict[str, Any]] = field(default_factory=dict)
    frozen: str = ""


def tiny(name: str, **sizes: Any) -> Any:
    return getattr(transformers, name)(**sizes)


BERT = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, vocab_size=100)
LLAMA = BERT | dict(num_key_value_heads=2, head_dim=8, pad_token_id=0)
VISION = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=32)
T = dict(transposed=True)

BERT_EMBEDDINGS = (
    "{0}.embeddings.word_embeddings {0}.embeddings.position_embeddings {0}.embeddings.token_type_embeddings "
)

FAMILIES = {
    "bert": Family(
        "BertForMaskedLM", tiny("BertConfig", **BERT), BERT_EMBEDDINGS.format("bert")
    ),  # its decoder is tied
    "bert, two heads": Family(
        "BertForPreTraining",
        tiny("BertConfig", **BERT, tie_word_embeddings=False),
        BERT_EMBEDDINGS.format("bert") + "cls.predictions.decoder cls.seq_relationship",
    ),
    "roberta": Family(
        "RobertaForSequenceClassification",
        tiny("RobertaConfig", **BERT),
        BERT_EMBEDDINGS.format("roberta") + "classifier.out_proj",
    ),
    "xlm-roberta": Family(  # registers its head before everything else
        "XLMRobertaForSequenceClassification",
        tiny("XLMRobertaConfig", **BERT),
        BERT_EMBEDDINGS.format("roberta") + "classifier.out_proj",
    ),
    "xlm-roberta, choice": Family(  # the same, and its pooler is read by that head
        "XLMRobertaForMultipleChoice",
        tiny("XLMRobertaConfig", **BERT),
        BERT_EMBEDDINGS.format("roberta") + "classifier",
    ),
    "gpt2, cross-attention": Family(  # k and v of the other sequence in one, q apart
        "GPT2LMHeadModel",
        tiny("GPT2Config", n_embd=32, n_layer=3, n_head=4, vocab_size=100, add_cross_attention=True),
        "transformer.wte transformer.wpe",
        {
            "transformer.h.*.attn.c_attn": dict(splits=(32, 32, 32), transposed=True),
            "transformer.h.*.crossattention.c_attn": dict(splits=(32, 32), transposed=True),
            **{f"transformer.h.*.crossattention.{name}": T for name in ("c_proj", "q_attn")},
            **{f"transformer.h.*.{name}": T for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
        },
    ),
    "xlm-roberta, tokens": Family(
        "XLMRobertaForTokenClassification",
        tiny("XLMRobertaConfig", **BERT),
        BERT_EMBEDDINGS.format("roberta") + "classifier",
    ),
    "distilbert": Family(
        "DistilBertForSequenceClassification",
        tiny("DistilBertConfig", dim=32, n_layers=3, n_heads=4, hidden_dim=48, vocab_size=100),
        "distilbert.embeddings.word_embeddings distilbert.embeddings.position_embeddings classifier",
    ),
    "albert": Family(
        "AlbertForSequenceClassification",
        tiny("AlbertConfig", **BERT, embedding_size=16),
        BERT_EMBEDDINGS.format("albert") + "classifier",
    ),
    "electra": Family(
        "ElectraForPreTraining",
        tiny("ElectraConfig", **BERT, embedding_size=16),
        BERT_EMBEDDINGS.format("electra") + "discriminator_predictions.dense_prediction",
    ),
    "deberta-v2": Family(
        "DebertaV2ForSequenceClassification",
        tiny(
            "DebertaV2Config",
            **BERT,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            type_vocab_size=2,
            conv_kernel_size=3,
        ),
        BERT_EMBEDDINGS.format("deberta") + "deberta.encoder.rel_embeddings classifier",
    ),
    "modernbert": Family(
        "ModernBertForMaskedLM",
        tiny(
            "ModernBertConfig", **BERT, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
        ),
        "model.embeddings.tok_embeddings",
        {"model.layers.*.attn.Wqkv": dict(splits=(32, 32, 32)), "model.layers.*.mlp.Wi": dict(splits=(48, 48))},
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        tiny("GPT2Config", n_embd=32, n_layer=3, n_head=4, vocab_size=100),
        "transformer.wte transformer.wpe",
        {
            "transformer.h.*.attn.c_attn": dict(splits=(32, 32, 32), transposed=True),
            **{f"transformer.h.*.{name}": T for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
        },
    ),
    "gpt_bigcode, multi-query": Family(
        "GPTBigCodeForCausalLM",
        tiny("GPTBigCodeConfig", n_embd=32, n_layer=3, n_head=4, vocab_size=100),
        "transformer.wte transformer.wpe",
        {"transformer.h.*.attn.c_attn": dict(splits=(32, 8, 8))},
    ),
    # GPT-NeoX, BLOOM and Falcon store q, k and v head by head: left whole.
    "gpt_neox": Family("GPTNeoXForCausalLM", tiny("GPTNeoXConfig", **BERT), "gpt_neox.embed_in embed_out lm_head"),
    "bloom": Family(
        "BloomForCausalLM",
        tiny("BloomConfig", hidden_size=32, n_layer=3, n_head=4, vocab_size=100),
        "transformer.word_embeddings",
    ),
    "falcon, grouped": Family(
        "FalconForCausalLM",
        tiny("FalconConfig", **BERT, new_decoder_architecture=True, num_kv_heads=2),
        "transformer.word_embeddings",
    ),
    "falcon, multi-query": Family(  # one group of heads: q, k and v do lie in three runs
        "FalconForCausalLM",
        tiny("FalconConfig", **BERT, multi_query=True, new_decoder_architecture=False),
        "transformer.word_embeddings",
        {"transformer.h.*.self_attention.query_key_value": dict(splits=(32, 8, 8))},
    ),
    "opt": Family(
        "OPTForCausalLM",
        tiny(
            "OPTConfig",
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            ffn_dim=48,
            vocab_size=100,
            word_embed_proj_dim=16,
        ),
        "model.decoder.embed_tokens model.decoder.embed_positions",  # project_in and project_out are hidden
    ),
    "llama": Family("LlamaForCausalLM", tiny("LlamaConfig", **LLAMA), "model.embed_tokens lm_head"),
    "mistral": Family("MistralForCausalLM", tiny("MistralConfig", **LLAMA), "model.embed_tokens lm_head"),
    "qwen2": Family("Qwen2ForCausalLM", tiny("Qwen2Config", **LLAMA), "model.embed_tokens lm_head"),
    "qwen3": Family("Qwen3ForCausalLM", tiny("Qwen3Config", **LLAMA), "model.embed_tokens lm_head"),
    # (4 + 2 · 2) heads of 4 are 32, the outputs of o_proj too, which is no fused q, k and v.
    "qwen3, narrow heads": Family(
        "Qwen3ForCausalLM", tiny("Qwen3Config", **LLAMA | dict(head_dim=4)), "model.embed_tokens lm_head"
    ),
    "gemma3": Family("Gemma3ForCausalLM", tiny("Gemma3TextConfig", **LLAMA), "model.embed_tokens"),
    "phi3": Family(
        "Phi3ForCausalLM",
        tiny("Phi3Config", **LLAMA),
        "model.embed_tokens lm_head",
        {
            "model.layers.*.self_attn.qkv_proj": dict(splits=(32, 16, 16)),
            "model.layers.*.mlp.gate_up_proj": dict(splits=(48, 48)),
        },
    ),
    "mixtral": Family(
        "MixtralForCausalLM",
        tiny("MixtralConfig", **LLAMA, num_local_experts=4),
        "model.embed_tokens lm_head model.layers.*.mlp.gate",
        {
            "model.layers.*.mlp.experts.gate_up_proj": dict(stacked=True, splits=(48, 48)),
            "model.layers.*.mlp.experts.down_proj": dict(stacked=True),
        },
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        tiny("Qwen3MoeConfig", **LLAMA, num_experts=4, moe_intermediate_size=16),
        "model.embed_tokens lm_head model.layers.*.mlp.gate",
        {
            "model.layers.*.mlp.experts.gate_up_proj": dict(stacked=True, splits=(16, 16)),
            "model.layers.*.mlp.experts.down_proj": dict(stacked=True),
        },
    ),
    "deepseek_v3": Family(
        "DeepseekV3ForCausalLM",
        tiny(
            "DeepseekV3Config",
            **BERT,
            n_routed_experts=4,
            moe_intermediate_size=16,
            q_lora_rank=12,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_group=2,
            topk_group=1,
            num_experts_per_tok=2,
            first_k_dense_replace=1,
            num_key_value_heads=4,
        ),
        "model.embed_tokens lm_head model.layers.*.mlp.gate",
        {
            "model.layers.*.mlp.experts.gate_up_proj": dict(stacked=True, splits=(16, 16)),
            "model.layers.*.mlp.experts.down_proj": dict(stacked=True),
        },
    ),
    "gpt_oss": Family(  # gate and up alternate, so that stack is not cut; its biases are stacks of vectors
        "GptOssForCausalLM",
        tiny("GptOssConfig", **LLAMA, num_local_experts=4),
        "model.embed_tokens lm_head model.layers.*.mlp.router"
        " model.layers.*.mlp.experts.gate_up_proj_bias model.layers.*.mlp.experts.down_proj_bias",
        {
            "model.layers.*.mlp.experts.gate_up_proj": dict(stacked=True, transposed=True),
            "model.layers.*.mlp.experts.down_proj": dict(stacked=True, transposed=True),
        },
    ),
    "llama4": Family(
        "Llama4ForCausalLM",
        tiny("Llama4TextConfig", **LLAMA, num_local_experts=4, intermediate_size_mlp=48),
        "model.embed_tokens lm_head model.layers.*.feed_forward.router",
        {
            "model.layers.*.feed_forward.experts.gate_up_proj": dict(stacked=True, splits=(48, 48), transposed=True),
            "model.layers.*.feed_forward.experts.down_proj": dict(stacked=True, transposed=True),
        },
    ),
    "mamba": Family(
        "MambaForCausalLM",
        tiny("MambaConfig", hidden_size=32, num_hidden_layers=3, vocab_size=100),
        "backbone.embeddings backbone.layers.*.mixer.conv1d backbone.layers.*.mixer.A_log",
        {"backbone.layers.*.mixer.in_proj": dict(splits=(64, 64))},
    ),
    "t5": Family(
        "T5ForConditionalGeneration",
        tiny(
            "T5Config",
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=3,
            num_heads=4,
            vocab_size=100,
            tie_word_embeddings=False,
        ),
        "shared lm_head encoder.embed_tokens decoder.embed_tokens encoder.block.*.layer.*.SelfAttention.relative_attention_bias"
        " decoder.block.*.layer.*.SelfAttention.relative_attention_bias",
    ),
    "bart": Family(
        "BartForConditionalGeneration",
        tiny(
            "BartConfig",
            d_model=32,
            encoder_layers=3,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            vocab_size=100,
            max_position_embeddings=50,
        ),
        "model.shared model.encoder.embed_positions model.decoder.embed_positions",
    ),
    "whisper": Family(  # the second convolution is hidden, the encoder's positions are fixed sinusoids
        "WhisperForConditionalGeneration",
        tiny(
            "WhisperConfig",
            d_model=32,
            encoder_layers=3,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            vocab_size=100,
            num_mel_bins=20,
            max_source_positions=30,
            max_target_positions=40,
            pad_token_id=0,
        ),
        "model.encoder.conv1 model.decoder.embed_tokens model.decoder.embed_positions",
        frozen="model.encoder.embed_positions",
    ),
    "wav2vec2": Family(  # the positions' convolution is kept as a magnitude and a direction
        "Wav2Vec2ForCTC",
        tiny("Wav2Vec2Config", **BERT, conv_dim=(16,) * 7, num_conv_pos_embedding_groups=4),
        "wav2vec2.feature_extractor.conv_layers.0.conv lm_head"
        " wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"
        " wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    "vit": Family(
        "ViTForImageClassification",
        tiny("ViTConfig", **VISION),
        "vit.embeddings.cls_token vit.embeddings.position_embeddings vit.embeddings.patch_embeddings.projection classifier",
    ),
    "dinov2": Family(
        "Dinov2ForImageClassification",
        tiny("Dinov2Config", hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14),
        "dinov2.embeddings.cls_token dinov2.embeddings.mask_token dinov2.embeddings.position_embeddings"
        " dinov2.embeddings.patch_embeddings.projection classifier",
    ),
    "swin": Family(
        "SwinForImageClassification",
        tiny("SwinConfig", embed_dim=16, depths=[2, 3], num_heads=[2, 4], window_size=4, image_size=32, patch_size=2),
        "swin.embeddings.patch_embeddings.projection classifier"
        " swin.encoder.layers.*.blocks.*.attention.relative_position_bias.relative_position_bias_table",
    ),
    "convnext": Family(
        "ConvNextForImageClassification",
        tiny("ConvNextConfig", hidden_sizes=[16, 32], depths=[2, 3], num_stages=2),
        "convnext.embeddings.patch_embeddings convnext.encoder.stages.*.layers.*.dwconv classifier",
    ),
    "resnet": Family(
        "ResNetForImageClassification",
        tiny("ResNetConfig", embedding_size=16, hidden_sizes=[16, 32], depths=[2, 3], layer_type="basic"),
        "resnet.embedder.embedder.convolution classifier.*",
    ),
    "clip": Family(
        "CLIPModel",
        tiny(
            "CLIPConfig",
            text_config=BERT | dict(max_position_embeddings=20, pad_token_id=0, bos_token_id=1, eos_token_id=2),
            vision_config=VISION | dict(hidden_size=48, patch_size=8),
            projection_dim=32,
        ),
        "text_model.embeddings.token_embedding text_model.embeddings.position_embedding"
        " vision_model.embeddings.patch_embedding vision_model.embeddings.position_embedding visual_projection text_projection",
    ),
    "clip, equal widths": Family(
        "CLIPModel",
        tiny(
            "CLIPConfig",
            text_config=BERT | dict(max_position_embeddings=20, pad_token_id=0, bos_token_id=1, eos_token_id=2),
            vision_config=VISION | dict(patch_size=8),
            projection_dim=32,
        ),
        "text_model.embeddings.token_embedding text_model.embeddings.position_embedding"
        " vision_model.embeddings.patch_embedding vision_model.embeddings.position_embedding visual_projection text_projection",
    ),
}


def template(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name).removesuffix(".weight")


def named(templates: str) -> set[str]:
    """The templates as they are written, "conv_layers.0" and "classifier.*" alike."""
    return set(templates.split())


def routed(family: Family) -> tuple[torch.nn.Module, Routes]:
    with torch.device("meta"):
        model = getattr(transformers, family.model)(family.config)
    return model, route(model)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_is_routed_as_its_architecture_says(family: Family) -> None:
    model, routes = routed(family)
    in_group = {name: group for group in routes for name, _ in group["params"]}
    seen: set[str] = set()
    for name, parameter in model.named_parameters():
        exact, general = name.removesuffix(".weight"), template(name)
        key = exact if exact in named(family.rest) else general
        seen.add(key)
        if key in named(family.frozen):
            assert name not in in_group
            continue
        group = in_group[name]
        if parameter.ndim < 2 or key in named(family.rest):
            assert group["optimizer"] == "adamw", name
        else:
            assert group["optimizer"] == "muon", name
        reading = {k: group[k] for k in ("stacked", "splits", "transposed") if k in group}
        assert reading == family.read.get(key, {}), name
        assert parameter.ndim > 1 or group["weight_decay"] == 0, name
    tied = {"encoder.embed_tokens", "decoder.embed_tokens", "embed_out", "lm_head"}
    assert named(family.rest) | set(family.read) | named(family.frozen) <= seen | tied


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_is_in_one_group_and_one_row(family: Family) -> None:
    model, routes = routed(family)
    placed = [name for group in routes for name, _ in group["params"]]
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(placed) == sorted(trained)
    assert [row.name for row in routes.rows] == [name for name, _ in model.named_parameters()]
    assert all(row.reason for row in routes.rows)
    assert len(routes) <= 8


def test_twenty_families() -> None:
    assert len({key.split(",")[0] for key in FAMILIES}) >= 20


SHOWN = {
    "GPT-2": ("GPT2LMHeadModel", tiny("GPT2Config")),
    "BERT": ("BertForMaskedLM", tiny("BertConfig")),
    "ViT": ("ViTForImageClassification", tiny("ViTConfig", num_labels=1000)),
    "ResNet-18": (
        "ResNetForImageClassification",
        tiny(
            "ResNetConfig", layer_type="basic", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], num_labels=1000
        ),
    ),
    "Mixtral": ("MixtralForCausalLM", tiny("MixtralConfig")),
}


def shown(model: str, config: Any) -> str:
    with torch.device("meta"):
        return route(
            getattr(transformers, model)(config),
            matrix_options={"weight_decay": 0.1},
            rest_options={"weight_decay": 0.1},
        ).table()


@pytest.mark.parametrize("name", SHOWN)
def test_the_documentation_shows_the_tables_as_they_are(name: str) -> None:
    page = Path(__file__).parent.parent / "docs" / "routing.md"
    assert f"### {name}\n\n```text\n{shown(*SHOWN[name])}\n```" in page.read_text(encoding="utf-8")
