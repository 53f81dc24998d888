"""Encoders of word pieces with one head per language (RLW, Lin et al. 2022, on XTREME)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlkit.errors import MtlkitError
from mtlkit.nets.separate import SeparateInputs
from mtlkit.pretrained import from_cache

PAD = 0
"""The piece that fills a sequence up; nothing attends to it."""


def text(tasks: int, outputs: int, pieces: int, *, pairs: bool = False, encoder: str = "", longest: int = 128,
         width: int = 128, layers: int = 2, attention_heads: int = 4,
         dropout: float = 0.1) -> SeparateInputs:  # fmt: skip
    """One encoder for all languages; a head per language is dropout at 0.1 and one linear layer, as published.

    Without `pairs` inputs are pieces `(B, L)` and predictions `(B, L, C)`; with it inputs are pieces and segments
    `(B, 2, L)`, and predictions, made from the first piece, `(B, C)`.

    Args:
        tasks: Languages T.
        outputs: Labels C.
        pieces: How many the vocabulary has.
        pairs: Whether the inputs are pairs of sentences.
        encoder: A published encoder of the BERT family, by its name in Hugging Face's local cache or a folder, such as
            `bert-base-multilingual-cased` (as published); the arguments that follow are then its own. Its pooler, a
            layer on the first piece that was trained with it, is part of the encoder for pairs. Empty for a small
            transformer.
        longest: Most pieces L.
        width: Of a piece's representation, a multiple of `attention_heads`.
        layers: Of the transformer.
        attention_heads: Per layer.
        dropout: On the embeddings and on what a layer adds.

    Raises:
        MtlkitError: The encoder's files are missing, or it knows fewer `pieces`.
    """
    if encoder:
        backbone: nn.Module = Published(encoder, pieces, pairs)
        width = backbone.width
    else:
        backbone = Transformer(pieces, pairs, longest, width, layers, attention_heads, dropout)
    heads = [nn.Sequential(nn.Dropout(0.1), nn.Linear(width, outputs)) for _ in range(tasks)]
    network = SeparateInputs(backbone, heads)
    network.initialisation = encoder or "scratch"
    return network


class Transformer(nn.Module):
    """Transformer layers that normalise first (Xiong et al. 2020, arXiv 2002.04745), over learned positions.

    Weights start from N(0, 0.02²) and biases at 0, as BERT's. `text` tells what goes in; `(B, L, D)` comes out, and for
    pairs `(B, D)`, the first piece's.
    """

    def __init__(self, vocabulary: int, pairs: bool, longest: int, width: int, layers: int, attention_heads: int,
                 dropout: float) -> None:  # fmt: skip
        super().__init__()
        self.pieces = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(longest, width)
        self.segments = nn.Embedding(2, width) if pairs else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, attention_heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        pieces = inputs if self.segments is None else inputs[:, 0]
        length, longest = pieces.shape[1], self.positions.num_embeddings
        if length > longest:
            raise MtlkitError(f"a sequence has {length} pieces, but this network takes {longest} at most: build it "
                              "with longest as large as the data's max_length.")  # fmt: skip
        there = (pieces != PAD)[:, None, None]
        z = self.pieces(pieces) + self.positions(torch.arange(length, device=inputs.device))
        if self.segments is not None:
            z = z + self.segments(inputs[:, 1])
        z = self.dropout(z)
        for layer in self.layers:
            z = layer(z, there)
        return self.norm(z if self.segments is None else z[:, 0])


class Layer(nn.Module):
    """Attention among the pieces of a sequence, then a perceptron on each, `(B, L, D)` to `(B, L, D)`."""

    def __init__(self, width: int, attention_heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = attention_heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor, there: Tensor) -> Tensor:
        """`there`, `(B, 1, 1, L)` bool, says which pieces may be attended to."""
        joint = self.queries_keys_values(self.before_attention(z)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = joint.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=there)
        z = z + self.dropout(self.mix(seen.transpose(1, 2).flatten(2)))
        return z + self.dropout(self.perceptron(self.before_perceptron(z)))


class Published(nn.Module):
    """An encoder of the BERT family with its published weights, from the local cache."""

    def __init__(self, name: str, vocabulary: int, pairs: bool) -> None:
        super().__init__()
        self.model = from_cache("AutoModel", name, add_pooling_layer=pairs)
        self.pairs, self.pad, self.width = pairs, self.model.config.pad_token_id, self.model.config.hidden_size
        if self.model.config.vocab_size < vocabulary:
            raise MtlkitError(f"encoder {name!r} knows {self.model.config.vocab_size} pieces, but the data have "
                              f"{vocabulary}: give the data the same encoder.")  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        pieces, segments = inputs.unbind(1) if self.pairs else (inputs, None)
        result = self.model(input_ids=pieces, attention_mask=(pieces != self.pad).long(), token_type_ids=segments)
        return result.pooler_output if self.pairs else result.last_hidden_state
