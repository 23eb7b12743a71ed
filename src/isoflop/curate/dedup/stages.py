"""The four stages of MinHash, from one configuration: each a list of datatrove's steps.

sign   [*reader, *sign_documents(config, signatures)]                 as many tasks as there are pieces
match  match_signatures(config, signatures, matches)                 a multiple of `num_buckets` tasks
cluster  [ClusterPairs(matches, duplicates, config.num_buckets)]     one task
drop   [*reader, drop_duplicates(config, signatures, duplicates)]    the tasks and documents of `sign`
"""

from importlib.util import find_spec
from pathlib import Path

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig as DatatroveMinhash
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages

from isoflop.config.base import UserError
from isoflop.config.curation.dedup import MinhashConfig
from isoflop.curate.dedup.drop import DropNearDuplicates
from isoflop.curate.dedup.order import CheckSignatures, RecordOrder
from isoflop.curate.dedup.signature import SUFFIX, SignDocuments
from isoflop.curate.words import WORDS


def sign_documents(config: MinhashConfig, signatures: Path) -> list[PipelineStep]:
    """Steps that end a pipeline: the signatures of its documents, by the engine that `config` names.

    Raises UserError where it needs spaCy and there is none.
    """
    record = RecordOrder(signatures, config.model_dump_json())
    if config.engine != "reference":
        return [record, SignDocuments(signatures, config)]
    if config.words == "spacy" and find_spec("spacy") is None:
        raise UserError("minhash.words=spacy: needs the package spacy; pip install spacy, or whitespace")
    words = WORDS["whitespace"] if config.words == "whitespace" else Languages.english
    return [record, MinhashDedupSignature(str(signatures), datatrove_shape(config), language=words)]


def match_signatures(config: MinhashConfig, signatures: Path, matches: Path) -> list[PipelineStep]:
    """datatrove's search for documents that share a band, once all signatures are found to be there."""
    check = CheckSignatures(signatures, config.model_dump_json(), SUFFIX)
    return [check, MinhashDedupBuckets(str(signatures), str(matches), config=datatrove_shape(config))]


def drop_duplicates(
    config: MinhashConfig, signatures: Path, duplicates: Path, exclusion_writer: DiskWriter | None = None
) -> DropNearDuplicates:
    """The filter that lets the first document of each cluster through."""
    return DropNearDuplicates(duplicates, signatures, config.model_dump_json(), exclusion_writer)


def datatrove_shape(config: MinhashConfig) -> DatatroveMinhash:
    """`config` in datatrove's terms; whichever engine signs, hashes are 64 bits."""
    return DatatroveMinhash(
        n_grams=config.n_grams,
        num_buckets=config.num_buckets,
        hashes_per_bucket=config.hashes_per_bucket,
        seed=config.seed,
        hash_config=HashConfig(precision=64, hash_fc=config.hash_fc),
    )
