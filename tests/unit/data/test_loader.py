"""Batches: every token once an epoch, the same on any number of ranks, from any step."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_documents, write_dataset

from isoflop.config.schema import DataConfig, TrainConfig
from isoflop.data.loader import IGNORE, Batches, build_batches
from isoflop.data.manifest import DatasetError

SEQ_LEN = 16


def batches_of(data: dict[str, Any], sequences: int = 4, seed: int = 0) -> Batches:
    train = TrainConfig(seq_len=SEQ_LEN, global_batch_tokens=sequences * SEQ_LEN)
    return build_batches(DataConfig(**data), train, seed)


def numbered(root: Path, n_tokens: int, first: int = 0, **how: Any) -> Path:
    """Tokens that all differ, in documents of 1 to 9 and two shards: a token says where it stands."""
    stream, documents, length = list(range(first, first + n_tokens)), [], 0
    while stream:
        length = length % 9 + 1
        documents.append(stream[:length])
        stream = stream[length:]
    half = len(documents) // 2
    return write_dataset(root, documents, (half, len(documents) - half), dtype="uint32", **how)


def inputs(batches: Batches, step: int) -> list[int]:
    """The tokens of a step that are not filling (filling stands after the stream's last token)."""
    batch, last = batches.step(step), batches.manifests[0].total_tokens - 1
    rows = []
    for row in batch.tokens.tolist():
        rows += row[: row.index(last) + 1] if last in row else row
    return rows


@pytest.mark.parametrize("n_tokens", [16 * 12, 16 * 12 - 1, 16 * 11 + 1, 16 * 11 + 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_token_is_an_input_once_an_epoch(tmp_path: Path, n_tokens: int, shuffle: bool) -> None:
    """12 samples in steps of 4: an epoch is 3 steps, whatever the length of the last sample."""
    batches = batches_of({"path": str(numbered(tmp_path, n_tokens)), "shuffle": shuffle})
    assert batches.n_tokens_per_epoch == n_tokens
    for epoch in range(3):
        seen = [token for step in range(3 * epoch, 3 * epoch + 3) for token in inputs(batches, step)]
        assert Counter(seen) == Counter(range(n_tokens))
        assert (seen == sorted(seen)) is not shuffle


@pytest.mark.parametrize("n_tokens", [16 * 12, 16 * 12 - 1, 16 * 11 + 1, 16 * 11 + 7])
def test_targets_are_the_next_tokens_and_are_counted(tmp_path: Path, n_tokens: int) -> None:
    batches = batches_of({"path": str(numbered(tmp_path, n_tokens, eos_id=9999))})
    for step in range(4):
        batch = batches.step(step)
        for token, target in zip(
            batch.tokens.flatten().tolist(), batch.targets.flatten().tolist(), strict=True
        ):
            assert target == (token + 1 if token < n_tokens - 1 else IGNORE)
        filling = batch.tokens == 9999
        assert int(filling.sum()) == sum(SEQ_LEN - n for n in ((~filling).sum(1)).tolist())
        assert batches.n_targets(step) == int((batch.targets != IGNORE).sum())
    assert sum(batches.n_targets(step) for step in range(3)) == n_tokens - 1


def test_documents_count_inside_each_sequence_and_hold_their_own_end(tmp_path: Path) -> None:
    """Against a walk over the tokens: a number grows just after an end of document (0), not in filling."""
    documents, filling = random_documents(61, vocab_size=100, longest=20), 200
    n_samples = -(-sum(map(len, documents)) // SEQ_LEN)
    root = write_dataset(tmp_path, documents, (10, 1, 50), eos_id=filling)
    batch = batches_of({"path": str(root)}, sequences=n_samples).step(0)
    for tokens, found in zip(batch.tokens.tolist(), batch.documents.tolist(), strict=True):
        number, expected = 0, []
        for token in tokens:
            expected.append(number)
            number += token == 0
        assert found == expected
    assert (batch.tokens == filling).any()


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 6, 12])
def test_ranks_together_have_the_batch_of_one(tmp_path: Path, n_ranks: int) -> None:
    data = {
        "mixture": [
            {"path": str(numbered(tmp_path / "a", 500)), "weight": 2},
            {"path": str(numbered(tmp_path / "b", 300, first=500)), "weight": 1},
        ]
    }
    alone, spread = batches_of(data, sequences=12), batches_of(data, sequences=12)
    for step in (0, 1, 5, 400):
        parts = [spread.step(step, rank, n_ranks) for rank in range(n_ranks)]
        whole = alone.step(step)
        for field in ("tokens", "targets", "documents"):
            part = torch.cat([getattr(part, field) for part in parts])
            assert part.dtype == torch.int64
            assert part.shape == (12, SEQ_LEN)
            assert torch.equal(part, getattr(whole, field))


def test_ranks_that_do_not_divide_the_batch_are_refused(tmp_path: Path) -> None:
    batches = batches_of({"path": str(numbered(tmp_path, 500))}, sequences=4)
    for rank, n_ranks in ((0, 3), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match="sequences"):
            batches.step(0, rank, n_ranks)


def test_a_step_far_away_is_the_one_that_walking_reaches(tmp_path: Path) -> None:
    """A loader that starts at step 10⁶ agrees with one that walked there."""
    data = {
        "mixture": [
            {"path": str(numbered(tmp_path / "a", 500)), "weight": 0.7},
            {"path": str(numbered(tmp_path / "b", 300, first=500)), "weight": 0.3},
        ]
    }
    walked = batches_of(data)
    last = 10**6
    for step in range(last - 200, last):
        walked.step(step)
    fresh = batches_of(data)
    assert torch.equal(fresh.step(last).tokens, walked.step(last).tokens)
    assert not torch.equal(fresh.step(last).tokens, fresh.step(0).tokens)
    assert torch.equal(fresh.step(3).tokens, batches_of(data).step(3).tokens)


def test_seek_continues_each_dataset_where_walking_would_be(tmp_path: Path) -> None:
    """Counting from step 0: after k whole epochs of the walk each sample has been seen k times."""
    n_tokens, sequences, far = 16 * 25, 5, 5 * 20_000  # 25 samples, an epoch is 5 steps
    batches = batches_of({"path": str(numbered(tmp_path, n_tokens))}, sequences)
    seen = [token for step in range(far, far + 5) for token in inputs(batches, step)]
    assert Counter(seen) == Counter(range(n_tokens))


def test_mixture_sees_each_dataset_once_per_its_own_epoch(tmp_path: Path) -> None:
    """Walking 3:1, the inputs of each dataset are whole epochs plus a part of the next."""
    sizes = {"a": 16 * 10, "b": 16 * 7}
    data = {
        "mixture": [
            {"path": str(numbered(tmp_path / "a", sizes["a"])), "weight": 3},
            {"path": str(numbered(tmp_path / "b", sizes["b"], first=1000)), "weight": 1},
        ]
    }
    batches = batches_of(data, sequences=8)
    tokens = torch.cat(
        [batches.step(step).tokens.flatten() for step in range(512)]
    )  # 4,096 samples: one block
    a, b = tokens[tokens < 1000], tokens[tokens >= 1000]
    assert (len(a), len(b)) == (3072 * SEQ_LEN, 1024 * SEQ_LEN)
    for part, size, first in ((a, sizes["a"], 0), (b, sizes["b"], 1000)):
        for epoch in part[: len(part) // size * size].reshape(-1, size):
            assert sorted(epoch.tolist()) == list(range(first, first + size))
    assert batches.n_tokens_per_epoch == sum(sizes.values())
    assert [manifest.total_tokens for manifest in batches.manifests] == list(sizes.values())


def test_datasets_of_one_size_are_walked_in_different_orders(tmp_path: Path) -> None:
    n_tokens = 16 * 40
    data = {
        "mixture": [
            {"path": str(numbered(tmp_path / "a", n_tokens)), "weight": 1},
            {"path": str(numbered(tmp_path / "b", n_tokens, first=n_tokens)), "weight": 1},
        ]
    }
    firsts = batches_of(data, sequences=60).step(0).tokens[:, 0]
    a, b = firsts[firsts < n_tokens][:20], firsts[firsts >= n_tokens][:20]
    assert not torch.equal(a, b - n_tokens)


def test_limit_keeps_the_first_samples_only(tmp_path: Path) -> None:
    batches = batches_of({"path": str(numbered(tmp_path, 500)), "limit_sequences": 2}, sequences=2)
    assert batches.n_tokens_per_epoch == 2 * SEQ_LEN
    for step in range(5):
        assert sorted(batches.step(step).tokens.flatten().tolist()) == list(range(2 * SEQ_LEN))
        assert batches.n_targets(step) == 2 * SEQ_LEN


def test_limit_beyond_the_dataset_changes_nothing(tmp_path: Path) -> None:
    path = str(numbered(tmp_path, 500))
    assert batches_of({"path": path, "limit_sequences": 10**6}).n_tokens_per_epoch == 500


def test_seed_decides_the_order(tmp_path: Path) -> None:
    path = str(numbered(tmp_path, 16 * 40))
    firsts = [batches_of({"path": path}, sequences=40, seed=seed).step(0).tokens[:, 0] for seed in (0, 0, 1)]
    assert torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[0], firsts[2])


def test_datasets_of_one_mixture_must_share_a_tokenizer(tmp_path: Path) -> None:
    a, b = numbered(tmp_path / "a", 99), numbered(tmp_path / "b", 99, tokenizer=b"{}")
    with pytest.raises(DatasetError, match="must share one") as caught:
        batches_of({"mixture": [{"path": str(a), "weight": 1}, {"path": str(b), "weight": 1}]})
    assert str(a) in str(caught.value)
    assert str(b) in str(caught.value)


def test_a_dataset_shorter_than_one_sequence_is_refused(tmp_path: Path) -> None:
    assert batches_of({"path": str(numbered(tmp_path / "a", SEQ_LEN))}).n_tokens_per_epoch == SEQ_LEN
    with pytest.raises(DatasetError, match=r"15 tokens are less than one sequence; train.seq_len=16"):
        batches_of({"path": str(numbered(tmp_path / "b", SEQ_LEN - 1))})


def test_verify_reaches_the_dataset(tmp_path: Path) -> None:
    path = numbered(tmp_path, 99)
    shard = path / "00000_documents.ds"
    shard.write_bytes(b"\1" + shard.read_bytes()[1:])
    batches_of({"path": str(path), "verify": "size"})
    with pytest.raises(DatasetError, match="sha256"):
        batches_of({"path": str(path), "verify": "hash"})
