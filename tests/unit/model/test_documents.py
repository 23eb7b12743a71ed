"""Documents packed into one sequence do not see each other, and no token sees the future."""

import pytest
import torch
from tiny_models import VOCAB_SIZE, packed, random_tokens, tiny_config, tiny_decoder
from torch.testing import assert_close

from isoflop.model.positions import positions_in_documents

POSITIONS = ("rope", "learned", "sinusoidal", "none")


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_packed_document_is_the_document_alone(positions: str) -> None:
    """The second of two packed documents has the logits that it has in a sequence of its own."""
    model = tiny_decoder(tiny_config(positions=positions))
    tokens = random_tokens(2, 31)
    documents = packed([12, 19], [12, 19])
    with torch.no_grad():
        together = model(tokens, documents)
        for here in (slice(0, 12), slice(12, 31)):
            alone = model(tokens[:, here], torch.zeros_like(tokens[:, here]))
            assert_close(together[:, here], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", POSITIONS)
def test_without_the_mask_a_sequence_is_one_document(positions: str) -> None:
    """document_mask=False is plain causal attention over the sequence, positions running on."""
    config = tiny_config(positions=positions)
    tokens, documents = random_tokens(2, 31), packed([12, 19], [30, 1])
    with torch.no_grad():
        unmasked = tiny_decoder(config.model_copy(update={"document_mask": False}))(tokens, documents)
        masked = tiny_decoder(config)
        assert_close(unmasked, masked(tokens, torch.zeros_like(tokens)), rtol=0, atol=1e-12)
        assert (unmasked - masked(tokens, documents))[:, 13:].abs().max() > 0.01


def test_positions_count_from_the_start_of_each_document() -> None:
    """As a loop counts them, also where a number comes back, or a row begins with the last one's."""
    documents = torch.randint(3, (20, 30), generator=torch.Generator().manual_seed(0))
    documents[1] = documents[0, -1]
    expected = []
    for row in documents.tolist():
        places: list[int] = []
        for t, document in enumerate(row):
            places.append(places[-1] + 1 if t and document == row[t - 1] else 0)
        expected.append(places)
    assert positions_in_documents(documents).tolist() == expected


@pytest.mark.parametrize("document_mask", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_no_token_sees_the_future(positions: str, document_mask: bool) -> None:
    """Another token at t leaves every logit before t the same, bit for bit, and changes those at t."""
    model = tiny_decoder(tiny_config(positions=positions, document_mask=document_mask), torch.float32)
    tokens, documents = random_tokens(1, 70 if positions != "learned" else 64), None
    documents = packed([40, tokens.shape[1] - 40])
    with torch.no_grad():
        before = model(tokens, documents)
        for t in (1, 17, 39, 40, 63):
            changed = tokens.clone()
            changed[0, t] = (tokens[0, t] + 1) % VOCAB_SIZE
            after = model(changed, documents)
            assert torch.equal(after[:, :t], before[:, :t])
            assert (after[:, t] - before[:, t]).abs().max() > 0.01
