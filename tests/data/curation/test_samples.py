"""What is kept aside is what was dropped, bounded, and the same whoever drew it."""

import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from curation import edited, prose
from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters.base_filter import BaseFilter

from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.samples.clusters import CLUSTER_ID, CLUSTER_SIZE, KeepClusters
from isoflop.curate.samples.keep import MOST_REASONS, KeepAside, NoteKept
from isoflop.curate.samples.lowest import Lowest
from isoflop.curate.samples.merge import merge_samples
from isoflop.curate.samples.watch import watch
from isoflop.curate.words import WORDS
from isoflop.data.aside import id_hash, read_records, sample_path, write_records

FEW = SamplesConfig(per_reason=5, characters=30, failed=7, clusters=3, cluster_members=4)


class ByNumber(BaseFilter):
    """Drops by what the number in a document's id is divisible by; by five without saying why."""

    name = "🔢 by number"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        number = int(doc.id.rpartition("-")[2])
        if number % 5 == 0:
            return False
        return True if number % 3 else (False, "threes")


def named(_: str) -> str:
    return "by number"


def documents(numbers: Iterable[int]) -> list[Document]:
    return [
        Document(text=f"text {n} " * 20, id=f"doc-{n}", metadata={"url": f"http://x/{n}", "score": n / 2})
        for n in numbers
    ]


def curated(folder: Path, tasks: Sequence[Sequence[int]], config: SamplesConfig = FEW) -> Path:
    """A dataset folder with the samples of documents that were dealt out to `tasks`."""
    for rank, numbers in enumerate(tasks):
        (step,) = watch([ByNumber()], folder / "aside", config, named)
        last = NoteKept(folder / "aside", config)
        step, last = pickle.loads(pickle.dumps((step, last)))  # as a task's process gets them
        list(last.run(step.run(iter(documents(numbers)), rank), rank))
    merge_samples([folder / "aside"], folder, config)
    return folder


def samples(root: Path, kind: str) -> list[dict[str, Any]]:
    """Read without our own reader."""
    raw = zstandard.ZstdDecompressor().stream_reader(sample_path(root, kind).read_bytes()).read()
    return [json.loads(line) for line in raw.splitlines()]


def lowest_of(numbers: Iterable[int], count: int) -> list[str]:
    return sorted((f"doc-{n}" for n in numbers), key=id_hash)[:count]


def test_of_each_reason_the_lowest_by_hash(tmp_path: Path) -> None:
    """All of two hundred documents sorted by hash, against what two tasks kept of them as they passed."""
    root = curated(tmp_path, [range(90), range(90, 200)])
    expected = {
        "threes": lowest_of((n for n in range(200) if n % 3 == 0 and n % 5), 5),
        "by number": lowest_of((n for n in range(200) if n % 5 == 0), 5),
    }
    found: dict[str, list[str]] = {}
    for sample in samples(root, "dropped"):
        assert sample["step"] == "by number"
        found.setdefault(sample["reason"], []).append(sample["id"])
    assert found == expected
    kept = lowest_of((n for n in range(200) if n % 3 and n % 5), 5)
    assert [sample["id"] for sample in samples(root, "kept")] == kept


def test_a_sample_tells_what_the_document_was(tmp_path: Path) -> None:
    (sample,) = samples(curated(tmp_path, [[33]]), "dropped")
    assert sample == {
        "step": "by number",
        "reason": "threes",
        "id": "doc-33",
        "url": "http://x/33",
        "text": ("text 33 " * 20)[:30],
        "characters": 160,
        "metadata": {"score": 16.5},
    }


def test_tasks_do_not_change_what_is_kept_aside(tmp_path: Path) -> None:
    numbers = list(range(120))
    alone = curated(tmp_path / "one", [numbers])
    spread = curated(tmp_path / "four", [numbers[100::-1], [], numbers[101:104], numbers[104:]])
    for name in ("samples/kept.jsonl.zst", "samples/dropped.jsonl.zst", "kept_ids.npy"):
        assert (alone / name).read_bytes() == (spread / name).read_bytes()


def test_kept_ids_are_those_of_every_document_that_passed(tmp_path: Path) -> None:
    root = curated(tmp_path, [range(50), range(50, 80)])
    ids = np.load(root / "kept_ids.npy")
    assert ids.dtype == np.dtype("<u8")
    assert ids.tolist() == sorted(id_hash(f"doc-{n}") for n in range(80) if n % 3 and n % 5)


def test_nothing_kept_is_an_empty_array(tmp_path: Path) -> None:
    root = curated(tmp_path, [[3, 5], []])
    assert np.load(root / "kept_ids.npy").tolist() == []
    assert samples(root, "kept") == []


def test_a_task_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterable[Document]:
        yield from documents(range(20))
        raise OSError("torn")

    (step,) = watch([ByNumber()], tmp_path, FEW, named)
    with pytest.raises(OSError, match="torn"):
        list(NoteKept(tmp_path, FEW).run(step.run(broken()), 0))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    list(step.run(iter(documents([9])), 0))  # the same object, run again, has forgotten
    (record,) = read_records(tmp_path / "dropped" / "by number" / "00000.jsonl.zst")
    assert record["id"] == "doc-9"


def test_only_steps_that_tell_nothing_yet_are_watched(tmp_path: Path) -> None:
    own = KeepAside(tmp_path, "own", FEW)
    told, other, fails = ByNumber(exclusion_writer=own), NoteKept(tmp_path, FEW), ByNumber()
    fails.failed_writer = None
    assert watch([told, other, fails], tmp_path, FEW, named) == [told, other, fails]
    assert told.exclusion_writer is own
    assert not hasattr(told, "failed_writer")
    assert not hasattr(other, "exclusion_writer")
    assert (fails.exclusion_writer.kind, fails.failed_writer.kind) == ("dropped", "failed")


def test_what_failed_is_kept_up_to_a_cap(tmp_path: Path) -> None:
    with KeepAside(tmp_path / "aside", "read", FEW, "failed") as failed:
        failed.write_failed("torn.html", "not_utf8", b"caf\xe9 " * 100, rank=3)
        for n in range(20):
            failed.write_failed(f"line {n}", "bad_json", '{"text": ', rank=3)
    merge_samples([tmp_path / "aside"], tmp_path, FEW)
    bad, (torn,) = samples(tmp_path, "failed")[:7], samples(tmp_path, "failed")[7:]
    assert (torn["text"], torn["characters"]) == ("caf\\xe9 " * 6, 500)
    assert [sample["id"] for sample in bad] == sorted((f"line {n}" for n in range(20)), key=id_hash)[:7]


def test_reasons_without_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    with KeepAside(tmp_path, "odd", FEW) as writer:
        for n in range(3 * MOST_REASONS):
            writer.write(Document("text", f"{n}", metadata={"filter_reason": f"reason {n}"}))
    records = list(read_records(tmp_path / "dropped" / "odd" / "00000.jsonl.zst"))
    assert len(records) == MOST_REASONS + FEW.per_reason


def test_strange_text_comes_back(tmp_path: Path) -> None:
    """Lone surrogates, line separators, nulls: whatever a string can hold."""
    texts = ["\ud800 alone", "a\u2028b\x85c\nd\re\x00", "日本語 🧪", '"\\']
    path = tmp_path / "some.jsonl.zst"
    write_records(path, ({"text": text} for text in texts))
    assert [record["text"] for record in read_records(path)] == texts
    many = [{"text": f"{n}" * 50_000} for n in range(60)]  # more than is read at once
    write_records(path, many)
    assert list(read_records(path)) == many
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises((OSError, ValueError)):
        list(read_records(path))


@pytest.mark.parametrize("size", [0, 1, 7])
def test_lowest_is_a_sort_cut_short(size: int) -> None:
    """Equal ranks: the earlier ones stay."""
    draw = np.random.default_rng(size)
    offered = [(int(draw.integers(3)), int(draw.integers(12)), n) for n in range(150)]
    lowest = Lowest(size)
    for group, rank, record in offered:
        lowest.add(group, rank, record)
    for group in range(3):
        mine = sorted((rank, n) for g, rank, n in offered if g == group)
        assert lowest.records(group) == [n for _, n in mine[:size]]


def dedup(folder: Path, texts: Sequence[Sequence[str]], config: SamplesConfig) -> list[str]:
    """datatrove's four stages over tasks of `texts`, with clusters noted; returns the ids that stay."""
    shape = MinhashConfig(n_grams=3)
    tasks = [
        [Document(text, f"{rank}/{n}", metadata={"url": f"http://{rank}/{n}"}) for n, text in enumerate(task)]
        for rank, task in enumerate(texts)
    ]
    for rank, task in enumerate(tasks):
        sign = MinhashDedupSignature(str(folder / "signatures"), shape, language=WORDS["whitespace"])
        list(sign.run(iter(task), rank, len(tasks)) or ())
    for bucket in range(shape.num_buckets):
        match = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "matches"), config=shape)
        match.run(None, bucket, shape.num_buckets)
    MinhashDedupCluster(
        str(folder / "matches"), str(folder / "remove"), shape, save_cluster_id=True, save_cluster_size=True
    ).run(None, 0, 1)
    stay: list[str] = []
    for rank, task in enumerate(tasks):
        drop = MinhashDedupFilter(str(folder / "remove"), load_cluster_ids=True, load_cluster_sizes=True)
        drop, note = watch([drop], folder / "aside", config, lambda _: "minhash")
        stay += [document.id for document in note.run(drop.run(iter(task), rank), rank)]
    merge_samples([folder / "aside"], folder, config)
    return stay


def test_clusters_are_the_planted_ones(tmp_path: Path) -> None:
    """Families of copies spread over two tasks: each comes back whole, the one that stays in front."""
    families = [[prose(n, 120)] + [edited(prose(n, 120), c, 0.005) for c in range(n)] for n in range(5)]
    copies = [(n, text) for n, family in enumerate(families) for text in family]
    tasks = [copies[0::2], copies[1::2]]
    everything = SamplesConfig(clusters=50, cluster_members=50, characters=40)
    stay = dedup(tmp_path, [[text for _, text in task] for task in tasks], everything)
    owner = {f"{rank}/{i}": n for rank, task in enumerate(tasks) for i, (n, _) in enumerate(task)}
    text = {f"{rank}/{i}": text for rank, task in enumerate(tasks) for i, (_, text) in enumerate(task)}
    found = list(read_records(sample_path(tmp_path, "clusters")))
    assert [cluster["size"] for cluster in found] == [5, 4, 3, 2]
    for cluster in found:
        names = [member["id"] for member in cluster["members"]]
        (family,) = {owner[name] for name in names}
        assert len(names) == len(set(names)) == family + 1 == cluster["size"]
        assert [member["kept"] for member in cluster["members"]] == [True] + [False] * family
        assert names[0] in stay
        assert all(member["text"] == text[member["id"]][:40] for member in cluster["members"])
    dropped = samples(tmp_path, "dropped")
    assert {sample["reason"] for sample in dropped} == {"minhash"}
    assert {sample["id"] for sample in dropped} == set(owner) - set(stay)


def test_all_tasks_choose_the_same_clusters(tmp_path: Path) -> None:
    """Of thirty clusters the three whose numbers hash lowest, whatever the tasks; of each, four members."""
    everyone = [(c, f"{c}-{m}") for c in range(30) for m in range(c % 6 + 2)]

    def sampled(folder: Path, tasks: Sequence[Sequence[tuple[int, str]]]) -> list[dict[str, Any]]:
        for rank, task in enumerate(tasks):
            with KeepClusters(folder / "aside", FEW) as writer:
                for cluster, name in task:
                    about = {CLUSTER_ID: cluster, CLUSTER_SIZE: cluster % 6 + 2}
                    writer.write(Document("text", name, metadata=about), rank)
                writer.write(Document("alone", "alone", metadata={CLUSTER_ID: -1, CLUSTER_SIZE: 1}), rank)
        merge_samples([folder / "aside"], folder, FEW)
        return samples(folder, "clusters")

    alone = sampled(tmp_path / "one", [everyone])
    assert alone == sampled(tmp_path / "three", [everyone[2::3], everyone[::3], everyone[1::3]])
    chosen = sorted(range(30), key=lambda c: id_hash(str(c)))[:3]
    assert sorted(cluster["cluster"] for cluster in alone) == sorted(chosen)
    for cluster in alone:
        mine = [name for c, name in everyone if c == cluster["cluster"]]
        assert cluster["size"] == len(mine)
        assert [m["id"] for m in cluster["members"]] == sorted(mine, key=id_hash)[:4]
