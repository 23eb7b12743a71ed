"""A stage's folder is named by everything that its result depends on, and by nothing else."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
from curation import config_of, corpus, curate, prose, texts_of
from programs import environment
from pydantic.fields import FieldInfo
from rich.console import Console
from tokenizers import Tokenizer, models

from isoflop.config.base import Config
from isoflop.config.curation.run import CurateConfig, load_curation
from isoflop.curate.build import make_plan
from isoflop.curate.describe import describe, differences
from isoflop.curate.existing import identify
from isoflop.curate.stages import Stage

ROOT = Path(__file__).parents[3]
NOT_THE_RESULTS = {
    *("data.output", "data.overwrite", "data.work", "data.workers", "data.licence", "data.megatron"),
    *("data.max_failed_fraction", "samples.per_reason", "samples.failed", "samples.characters"),
    *("samples.clusters", "samples.cluster_members"),
}
FILTERED = "*-filter-*/logs/completions/*"
LABELS = {"pipeline.name", "pipeline.profile"}
FILES = {
    *("data.sources", "tokenizer.path", "pipeline.language.model"),  # named by content: a test below
    *("pipeline.urls.extra_domains", "pipeline.urls.extra_urls", "pipeline.urls.cache"),
    *("pipeline.decontaminate.evaluations", "pipeline.classifier.model"),
    *("pipeline.classifier.positives", "pipeline.classifier.negatives"),
    *(f"pipeline.signals.{name}" for name in ("stop_words", "ldnoobw", "ut1")),
}


def stages_of(config: CurateConfig) -> list[Stage]:
    recipe = import_module(f"data_pipelines.{config.pipeline.name}").recipe
    stages: list[Stage] = recipe(make_plan(config, Path("/work-folder"), identify(config, recipe))).stages
    return stages


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("in"), [prose(seed) for seed in range(24)], files=4)


def fields(config: Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    """(key, field, value) of every leaf of a configuration."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, value


ON = {"pipeline.decontaminate", "pipeline.classifier"}


def given(source: Path, key: str) -> dict[str, Any]:
    """The least that a part which is left out needs when it is put in."""
    file = str(source / "0.jsonl")
    return {"evaluations": [file]} if key.endswith("decontaminate") else {"model": file, "threshold": 0.5}


def other(value: Any, annotation: Any) -> Any:
    """A value that a field of this type may have in place of `value`."""
    if value is None and "Config" in str(annotation):
        return {}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 0.9 if value == 0.8 else value / 2 or 0.5  # 0.9 is a similarity that there are signatures for
    if isinstance(value, dict):
        return {}
    options = [arg for arg in get_args(annotation) if arg is not NoneType]
    if get_origin(annotation) is Literal:
        return next(option for option in options if option != value)
    if get_origin(annotation) in (Union, UnionType) and options:
        return other(value, options[0])
    if isinstance(value, tuple):
        return (*value, value[-1]) if value else ("word",)
    if annotation is str:
        return f"{value or ''}x"
    if value is None:
        return 0.5 if "float" in str(annotation) else 2
    raise AssertionError(f"no other value than {value!r} is known for {annotation}")


def changed(config: CurateConfig, key: str, value: Any) -> CurateConfig:
    tree = config.model_dump(mode="json")
    at = tree
    *groups, last = key.split(".")
    for group in groups:
        at = at[group]
    at[last] = value
    return load_curation(tree)


# By profile, the parts that it leaves out and that are put in here, so that their settings are varied too.
CLASSIFIER = "pipeline.classifier={{positives: [{0}], negatives: [{0}], threshold: 0.5}}"
PROFILES = {
    "fineweb-paper": ("pipeline.exact={{by: text}}", CLASSIFIER),
    "docs": ("pipeline.repeated={{}}", "pipeline.decontaminate={{evaluations: [{0}]}}"),
    "dclm": (CLASSIFIER.replace("threshold: 0.5", "top_fraction: 0.5"),),
    "redpajama-gopher": (),
    "gopher-only": (),
}
ALONE = {("fineweb-paper", "pipeline.classifier.top_fraction"), ("dclm", "pipeline.classifier.threshold")}


def profiled(source: Path, profile: str, put_in: bool = True) -> CurateConfig:
    more = [given.format(source / "0.jsonl") for given in PROFILES[profile] if put_in]
    return config_of(source, Path("out"), f"pipeline={profile}", *more)


def _knobs() -> list[tuple[str, str]]:
    """Every setting; where a choice excludes another setting, that one stays as it is."""
    found = []
    for profile in PROFILES:
        for put_in in (True, False) if PROFILES[profile] else (False,):
            keys = [key for key, *_ in fields(profiled(Path(), profile, put_in)) if key not in LABELS | FILES]
            found += [(profile, key) for key in keys if (profile, key) not in {*found, *ALONE}]
    return found


@pytest.mark.parametrize(("profile", "key"), _knobs())
def test_a_setting_renames_the_stages_that_it_changes(source: Path, profile: str, key: str) -> None:
    """So no result of other settings can be found; and where, when or by whom it is done renames none."""
    config = profiled(source, profile)
    if key not in {name for name, *_ in fields(config)}:  # a part that is left out, as a whole
        config = profiled(source, profile, put_in=False)
    field, value = next((f, v) for k, f, v in fields(config) if k == key)
    before = [stage.folder for stage in stages_of(config)]
    new = given(source, key) if value is None and key in ON else other(value, field.annotation)
    after = [stage.folder for stage in stages_of(changed(config, key, new))]
    if key in NOT_THE_RESULTS:
        assert after == before
    else:
        assert after[-1] != before[-1]
        first = next(i for i, (a, b) in enumerate(zip(after, before, strict=False)) if a != b)
        assert not set(after[first:]) & set(before), "a later stage does not know what came before it"


NAMED = {
    "tokenizer": ("pipeline=none", "tokenizer.path={}"),
    "filter": ("pipeline=docs", "pipeline.language.model={}"),
    "evaluations": ("pipeline=none", "pipeline.decontaminate={{evaluations: [{}]}}"),
    "classifier": ("pipeline=none", "pipeline.classifier={{model: {}, threshold: 0.5}}"),
    "lists": ("pipeline=none", "pipeline.urls={{use_integrated_lists: false, extra_domains: [{}]}}"),
    "annotate": ("pipeline=redpajama-gopher", "pipeline.signals.stop_words={}"),
}


@pytest.mark.parametrize("stage", NAMED)
def test_a_file_is_known_by_its_content(source: Path, tmp_path: Path, stage: str) -> None:
    """A file that is written again is another one: to its stage, and to a dataset that was built with it."""
    profile, key = NAMED[stage]
    names, prints = [], []
    for time_ns, content in ((10**18, "a"), (10**18, "a"), (2 * 10**18, "b")):
        file = tmp_path / "given.jsonl"
        file.write_text(content_of(stage, content))
        os.utime(file, ns=(time_ns, time_ns))
        config = config_of(source, Path("out"), profile, key.format(file))
        names.append(next(one.folder for one in stages_of(config) if one.name == stage))
        prints.append(identify(config, stages_of)["fingerprint"])
    assert names[0] == names[1] != names[2]
    assert prints[0] == prints[1] != prints[2]


def content_of(stage: str, word: str) -> str:
    made = {"tokenizer": tokenizer_json(word), "annotate": json.dumps({"en": [word]})}
    return made.get(stage, json.dumps({"text": word}) + "\n")


def tokenizer_json(word: str) -> str:
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, word: 1}, unk_token=word))
    return str(tokenizer.to_str())


def test_a_late_setting_leaves_the_early_stages(source: Path) -> None:
    one, two = (stages_of(config_of(source, Path("out"), f"tokenizer.vocab_size={n}")) for n in (400, 500))
    same = [a.name for a, b in zip(one, two, strict=True) if a.folder == b.folder]
    assert "filter" in same
    assert [a.name for a, b in zip(one, two, strict=True) if a.folder != b.folder] == [
        "tokenizer",
        "tokenize",
        "merge",
    ]


def test_names_are_the_same_in_every_process(source: Path) -> None:
    """Sets have another order in each, by design of Python."""
    code = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "from pathlib import Path; from data.curation.test_stage_names import stages_of, config_of\n"
        f"print([s.folder.name for s in stages_of(config_of(Path({str(source)!r}), Path('out')))])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**environment(), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{[stage.folder.name for stage in stages_of(config_of(source, Path('out')))]}\n"}


def test_a_kept_work_folder_is_built_upon(source: Path, tmp_path: Path) -> None:
    """Another vocabulary: the documents are filtered once, and each dataset is as if built alone."""
    work, said = f"data.work={tmp_path / 'work'}", io.StringIO()
    keep = "pipeline.language=null"
    curate(source, tmp_path / "a", work, keep)
    marks = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").glob(FILTERED)}
    console = Console(file=said, width=300)
    second = curate(source, tmp_path / "b", work, keep, "tokenizer.vocab_size=500", console=console)
    assert marks
    assert marks == {p: p.stat().st_mtime_ns for p in (tmp_path / "work").glob(FILTERED)}
    assert "tokenizer    is done anew: steps.0.config.vocab_size: 400 → 500" in said.getvalue()
    alone = curate(source, tmp_path / "c", keep, "tokenizer.vocab_size=500")
    assert second.content_sha256 == alone.content_sha256
    assert texts_of(tmp_path / "b") == texts_of(tmp_path / "c")
    again = curate(source, tmp_path / "d", work, keep)  # its merge was published, not kept
    assert again.content_sha256 == curate(source, tmp_path / "a", work, keep).content_sha256


class Held:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


def test_a_description_tells_contents_apart() -> None:
    """Equal contents are described equally; anything else is not, whatever it is held in."""
    values: list[Any] = [
        None, True, 1, 1.5, "a", b"a", Path("a/b"), [1, 2], (2, 1), {"a": 1}, {"b": 1}, {"a", "b"},
        frozenset("c"),
        np.arange(3), np.arange(4), np.random.default_rng(1), np.random.default_rng(2), os.path.join,
        Held(a=1), Held(a=2), Held(a=1, b=set("xyz")), list(range(100)), list(range(101)),
    ]  # fmt: skip
    described = [str(describe(Held(value=value))) for value in values]
    assert len(set(described)) == len(values)
    assert describe(Held(a=1, _cache={1: 2}, stats=3)) == describe(Held(a=1))
    with pytest.raises(TypeError, match="cannot be described"):
        describe(Held(lock=object()))


def test_differences_name_what_differs() -> None:
    now = {"tasks": 8, "steps": [{"class": "a", "least": 5}, {"class": "b"}]}
    then = {"tasks": 8, "steps": [{"class": "a", "least": 3}, {"class": "b"}]}
    assert list(differences(now, then)) == ["steps.0.least: 3 → 5"]
    assert list(differences(now, {**now, "tasks": 4})) == ["tasks: 4 → 8"]
    assert list(differences(now, now)) == []
