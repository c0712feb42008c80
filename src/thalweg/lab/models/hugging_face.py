"""Networks of the library transformers, made from its configurations: random weights, or those of a folder of the user's.

Nothing is downloaded. Dropout is off: a run is a function of its seed, whatever else was evaluated on the way.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.lab.tasks.files import library


class BertSize(NamedTuple):
    """Size of a BERT that reads sequences of up to `length` tokens."""

    layers: int
    width: int
    heads: int
    length: int


class Wrapped(nn.Module):
    """A network of transformers as a function of one tensor to another."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to what `call` makes of them."""
        return self.call(self.network, inputs)


def bert_classifier(size: BertSize, vocabulary: dict[str, int], outputs: int, pretrained: Path | None) -> nn.Module:
    """Build a BERT that maps tokens and segments (N, 2, T) to (N, outputs).  Devlin et al. 2018, arXiv:1810.04805"""
    network = _bert("BertForSequenceClassification", size, vocabulary, pretrained, num_labels=outputs)
    return Wrapped(network, lambda bert, packed: _read(bert, packed, vocabulary).logits)


def bert_spans(size: BertSize, vocabulary: dict[str, int], pretrained: Path | None) -> nn.Module:
    """Build a BERT that maps tokens and segments (N, 2, T) to logits of a span's first and last token (N, 2, T)."""

    def logits(bert: nn.Module, packed: Tensor) -> Tensor:
        out = _read(bert, packed, vocabulary)
        return torch.stack([out.start_logits, out.end_logits], 1)

    return Wrapped(_bert("BertForQuestionAnswering", size, vocabulary, pretrained), logits)


def _read(bert: nn.Module, packed: Tensor, vocabulary: dict[str, int]) -> Any:
    tokens, segments = packed.unbind(1)
    return bert(input_ids=tokens, token_type_ids=segments, attention_mask=tokens != vocabulary["[PAD]"])


def _bert(kind: str, size: BertSize, vocabulary: dict[str, int], pretrained: Path | None, **options: int) -> nn.Module:
    transformers = library("transformers")
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if pretrained is not None:
        return _pretrained(getattr(transformers, kind), pretrained, **without, **options)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        pad_token_id=vocabulary["[PAD]"],
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        max_position_embeddings=size.length,
        **without,
        **options,
    )
    return getattr(transformers, kind)(config)


def _pretrained(kind: Any, folder: Path, **options: float) -> nn.Module:
    """Read weights from safetensors, which can hold nothing but tensors; the output layer is new, which is no news."""
    logging = library("transformers.utils.logging")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    finally:
        logging.set_verbosity(before)
    return network.float().train()


def _images(network: nn.Module) -> nn.Module:
    return Wrapped(network, lambda network, images: network(pixel_values=images).logits)


def resnet50(width: int, depths: list[int], classes: int) -> nn.Module:
    """Build a ResNet of bottlenecks: width 64, depths 3, 4, 6, 3 are ResNet-50.  He et al. 2015, arXiv:1512.03385, table 1"""
    transformers = library("transformers")
    sizes = [4 * width * 2**stage for stage in range(4)]
    config = transformers.ResNetConfig(
        embedding_size=width, hidden_sizes=sizes, depths=depths, layer_type="bottleneck", num_labels=classes
    )
    return _images(transformers.ResNetForImageClassification(config))


def vit(image: int, patch: int, width: int, layers: int, heads: int, classes: int) -> nn.Module:
    """Build a ViT of arXiv:2010.11929; 224, 16, 384, 12, 6 are ViT-S/16 (Touvron et al. 2020, arXiv:2012.12877, table 1)."""
    transformers = library("transformers")
    config = transformers.ViTConfig(
        image_size=image,
        patch_size=patch,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=classes,
    )
    return _images(transformers.ViTForImageClassification(config))
