"""Every attention kernel computes the same attention."""

import sys
import types
from itertools import pairwise

import pytest
import torch
from tiny_models import packed, random_tokens, tiny_config, tiny_decoder
from torch import Tensor
from torch.testing import assert_close

from isoflop.model.kernels import Flex, Sdpa

DOCUMENTS = packed(
    [5, 20, 8], [33], [33], [1, 31, 1]
)  # two rows end with the number that the next begins with


def queries_keys_values(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Six query heads in two groups, over DOCUMENTS."""
    draw = torch.Generator().manual_seed(0)
    heads = (6, 2, 2)
    q, k, v = (torch.randn(*DOCUMENTS.shape, n, 8, generator=draw, dtype=dtype) for n in heads)
    return q, k, v


def naive_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """(seq, heads, d_head) each, head by head; consecutive query heads share a key head."""
    shared = q.shape[1] // k.shape[1]
    heads = []
    for h in range(q.shape[1]):
        scores = q[:, h] @ k[:, h // shared].T / q.shape[-1] ** 0.5
        if causal:
            future = torch.ones_like(scores, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, h // shared])
    return torch.stack(heads, dim=1)


def documents_of(row: Tensor, masked: bool) -> list[Tensor]:
    """The places (bool) of each document of a row; all places where they are not masked."""
    return (
        [row == document for document in row.unique()] if masked else [torch.ones_like(row, dtype=torch.bool)]
    )


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_sdpa_is_attention_inside_each_document(masked: bool) -> None:
    q, k, v = queries_keys_values()
    found = Sdpa().attend(q, k, v, Sdpa().mask(DOCUMENTS, masked))
    for i, row in enumerate(DOCUMENTS):
        for here in documents_of(row, masked):
            expected = naive_attention(q[i, here], k[i, here], v[i, here], causal=True)
            assert_close(found[i, here], expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_flex_is_sdpa(masked: bool) -> None:
    """Forward; on a CPU it has no backward."""
    q, k, v = queries_keys_values(torch.float32)
    with torch.no_grad():
        found = Flex().attend(q, k, v, Flex().mask(DOCUMENTS, masked))
        expected = Sdpa().attend(q, k, v, Sdpa().mask(DOCUMENTS, masked))
    assert_close(found, expected, rtol=0, atol=1e-5)


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """What flash-attn documents: (batch, seq, heads, d_head) each, fewer heads in k and v."""
    return torch.stack([naive_attention(*one, causal) for one in zip(q, k, v, strict=True)])


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    causal: bool = False,
) -> Tensor:
    """What flash-attn documents: (total, heads, d_head) each, a sequence from each offset to the next."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    offsets = cu_seqlens_q.tolist()
    assert (offsets[0], offsets[-1]) == (0, len(q))
    lengths = [end - start for start, end in pairwise(offsets)]
    assert max(lengths) == max_seqlen_q == max_seqlen_k
    return torch.cat(
        [
            naive_attention(*one, causal)
            for one in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
        ]
    )


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_flash_is_sdpa(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradients of a decoder that calls flash-attn are those of one that calls torch."""
    library = types.ModuleType("flash_attn")
    library.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    library.flash_attn_varlen_func = flash_attn_varlen_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", library)
    tokens, documents = random_tokens(*DOCUMENTS.shape), DOCUMENTS
    results = []
    for kernel in ("flash", "sdpa"):
        model = tiny_decoder(tiny_config(attention=kernel, document_mask=masked))
        logits = model(tokens, documents)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
