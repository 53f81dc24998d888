"""Text encoders: shapes, padding, gradients, the engine's exactness, and published encoders from a local folder."""

import sys
from pathlib import Path

import pytest
import torch

from mtlkit import tasks
from mtlkit.data.word_pieces import OfEncoder, paired
from mtlkit.engine import SampleAlignment
from mtlkit.errors import MtlkitError
from mtlkit.nets.text import text
from mtlkit.text_tasks import IGNORE, tagging
from tests import zoo
from tests.engine.test_alignment import check

SMALL = {"width": 8, "attention_heads": 2, "longest": 6}


def batch(pairs: bool, tasks_: int = 3, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences of 6 pieces that end in padding, but for the first, and random labels of three classes."""
    pieces = torch.randint(4, 20, (size, 6))
    lengths = torch.arange(6, 6 - size, -1)
    pieces[torch.arange(6) >= lengths[:, None]] = 0
    if pairs:
        return torch.stack([pieces, (torch.arange(6) > 2).expand(size, 6).long()], 1), torch.randint(3, (tasks_, size))
    labels = torch.randint(3, (tasks_, size, 6))
    labels[:, pieces == 0] = IGNORE
    labels[:, :, 0] = IGNORE
    return pieces, labels


def problem(pairs: bool, **options: object) -> zoo.Problem:
    torch.manual_seed(0)
    network = text(3, 3, 20, pairs=pairs, **(SMALL | options)).double().train()
    losses = [tasks.multiclass("en").loss if pairs else tagging("en", ("O", "B-X", "I-X")).loss] * 3
    return zoo.Problem(network, losses, *batch(pairs), "network")


@pytest.mark.parametrize("pairs", [False, True])
def test_the_alignment_of_samples_is_exact(pairs: bool) -> None:
    check(problem(pairs))


@pytest.mark.parametrize("pairs", [False, True])
def test_the_alignment_is_exact_for_sentences_of_each_language(pairs: bool) -> None:
    one = problem(pairs)
    one.inputs, one.targets = map(tuple, zip(*((batch(pairs)[0], batch(pairs)[1][t]) for t in range(3)), strict=True))
    align = SampleAlignment(one.network.eval(), one.losses)
    align._exact[False] = "network"  # looking for the path takes the device from inputs that are one tensor
    direction = [torch.randn_like(p) for p in align.parameters]
    scores = align(one.inputs, one.targets, direction).scores
    expected = zoo.loop_scores(one, align.parameters, direction)
    assert (scores - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.parametrize("pairs", [False, True])
def test_shapes_and_a_gradient_for_every_parameter(pairs: bool) -> None:
    one = problem(pairs)
    predictions = one.network([one.inputs, one.inputs[:2], one.inputs])
    assert [tuple(p.shape) for p in predictions] == [(n, 3) if pairs else (n, 6, 3) for n in (4, 2, 4)]
    assert predictions[0].shape == one.network.main([one.inputs]).shape
    zoo.matrix(one).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in one.network.parameters())


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_changes_nothing(pairs: bool) -> None:
    one = problem(pairs, longest=9)
    network, inputs = one.network.eval(), one.inputs
    more = torch.nn.functional.pad(inputs, (0, 3))
    for short, long in zip(network(inputs), network(more), strict=True):
        there = (inputs != 0) if not pairs else torch.ones(4, dtype=torch.bool)
        assert torch.allclose(short[there], (long if pairs else long[:, :6])[there], atol=1e-12)


def test_order_matters() -> None:
    one = problem(True)
    network, swapped = one.network.eval(), one.inputs.clone()
    swapped[0, 0, 1:3] = one.inputs[0, 0, 1:3].flip(0)
    assert not torch.allclose(network(one.inputs)[0][0], network(swapped)[0][0])


def test_a_sequence_that_is_too_long() -> None:
    with pytest.raises(MtlkitError, match="7 pieces, but this network takes 6"):
        problem(False).network(torch.ones(2, 7, dtype=torch.long))


def test_a_published_encoder_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MtlkitError, match="needs the package transformers"):
        text(2, 3, 20, encoder="bert-base-multilingual-cased")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A tiny BERT with random weights, and its tokenizer."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm", "##b", "ab"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    transformers.BertTokenizer.from_pretrained(str(tmp_path)).save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_published_encoder(folder: str, pairs: bool) -> None:
    check(problem(pairs, encoder=folder))
    one = problem(pairs, encoder=folder)
    assert one.network.initialisation == folder
    shape = one.network(one.inputs)[0].shape
    assert shape == ((4, 3) if pairs else (4, 6, 3))
    zoo.matrix(one).sum().backward()
    assert all(p.grad is not None for p in one.network.parameters())
    with pytest.raises(MtlkitError, match="knows 20 pieces, but the data have 30"):
        text(2, 3, 30, encoder=folder)


def test_the_tokenizer_of_a_published_encoder(folder: str) -> None:
    tokenizer = OfEncoder(folder)
    assert (tokenizer.size, tokenizer.pad, tokenizer.first, tokenizer.separator) == (20, 0, 2, 3)
    assert tokenizer.encode("ab abb z") == [19, 19, 18, 1]
    texts = (("a", "b c"), ("abb m", "k l"), ("a b c d e f", "g"), ("g", "a b c d e f"), ("abbbb", "ab k l m"))
    for first, second in texts:
        for longest in (5, 7, 9):  # of an odd number of pieces today's tokenizers give one more to the second sentence
            (pieces, segments), _ = paired(tokenizer, first, second, longest)
            theirs = tokenizer.tokenizer(first, second, truncation="longest_first", max_length=longest)
            assert (pieces, segments) == (theirs["input_ids"], theirs["token_type_ids"])


def test_a_published_encoder_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra `text`")
    for make in (lambda name: text(2, 3, 20, encoder=name), OfEncoder):
        with pytest.raises(MtlkitError, match="not whole in Hugging Face's local cache"):
            make(str(tmp_path / "nothing"))
