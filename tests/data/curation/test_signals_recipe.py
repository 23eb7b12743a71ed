"""The recipe end to end: columns once, then rules, duplicates and tokens; a new rule annotates nothing."""

from pathlib import Path

from curation import corpus, curate, prose, texts_of

from isoflop.data.manifest import Manifest

GIVEN = ("pipeline=redpajama-gopher", "pipeline.language=null", "data.workers=1")


def dropped(manifest: Manifest, step: str) -> dict[str, int]:
    return next(record.dropped for record in manifest.stages if record.name == step)


def test_annotate_once_filter_later(tmp_path: Path) -> None:
    good = [prose(seed) for seed in range(8)]
    spoilt = ["Only a few words are here.", "water " * 90, prose(30).replace(" ", " # ")]
    longer = f"{good[5]} Indeed."
    sources = corpus(tmp_path / "in", [*good[:5], good[2], *spoilt, longer, good[5], *good[6:]], files=1)
    given = (*GIVEN, f"data.work={tmp_path}/work")

    manifest = curate(sources, tmp_path / "gopher", *given)
    assert dropped(manifest, "rules") == {"word_count": 1, "top_2gram": 1, "symbols": 1}
    assert dropped(manifest, "duplicates") == {"exact_duplicate": 1, "near_duplicate": 1}
    assert sorted(texts_of(tmp_path / "gopher")) == sorted([*good[:5], longer, *good[6:]])

    columns = {path: path.stat() for path in tmp_path.glob("work/*-annotate-*/columns/*.parquet")}
    looser = ("pipeline.rules.word_count.at_least=5", "pipeline.duplicates=null")
    manifest = curate(sources, tmp_path / "looser", *given, *looser)
    assert dropped(manifest, "rules") == {"top_2gram": 1, "symbols": 1}
    assert manifest.total_documents == 11
    rules = manifest.pipeline["pipeline"]["rules"]
    assert (rules["word_count"]["at_least"], rules["word_count"]["at_most"]) == (5, 100_000)
    after = {path: path.stat() for path in tmp_path.glob("work/*-annotate-*/columns/*.parquet")}
    assert list(after) == list(columns)
    assert [(stat.st_ino, stat.st_mtime_ns) for stat in after.values()] == [
        (stat.st_ino, stat.st_mtime_ns) for stat in columns.values()
    ]
