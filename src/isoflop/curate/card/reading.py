"""The part of the card that says how a dataset is read, by three libraries and by none."""

from pathlib import Path
from textwrap import dedent

from isoflop.data.manifest import Manifest


def how_to_read(manifest: Manifest, name: str) -> str:
    """Code that runs in the folder that holds the dataset."""
    shard = manifest.shards[0]
    kind, size = {"uint16": ("<u2", 2), "uint32": ("<u4", 4)}[manifest.dtype]
    window = min(1024, shard.tokens)
    pieces = [
        (
            "With isoflop, all shards as one stream of tokens:",
            f"""\
            from pathlib import Path

            from isoflop.data.tokens import TokenDataset

            dataset = TokenDataset(Path("{name}"))  # verify="size" does not read every shard first
            tokens = dataset.read(0, {window})
            """,
        ),
        (
            "With datatrove, windows of one token more than the sequence:",
            f"""\
            from datatrove.utils.dataset import DatatroveFolderDataset

            windows = DatatroveFolderDataset("{name}", {window - 1}, token_size={size}, recursive=False)
            tokens = windows[0]["input_ids"]
            """,
        ),
        (
            "Without either, the first document as text:",
            f"""\
            import numpy as np
            from tokenizers import Tokenizer

            tokens = np.memmap("{name}/{shard.file}", "{kind}", "r")
            ends = np.memmap("{name}/{shard.file}.index", "<u8", "r")
            document = tokens[: int(ends[0]) - 1]  # the last token is the end of text
            tokenizer = Tokenizer.from_file("{name}/tokenizer.json")
            text = tokenizer.decode(document.tolist(), skip_special_tokens=False)
            """,
        ),
    ]
    prefixes = [record["prefix"] for record in (manifest.model_extra or {}).get("megatron") or []]
    if prefixes:
        pieces.append(
            (
                f"With Megatron-LM (`--data-path {name}/{prefixes[0]}`):",
                f"""\
                from megatron.core.datasets.indexed_dataset import IndexedDataset

                document = IndexedDataset("{name}/{prefixes[0]}")[0]
                """,
            )
        )
    files = ", ".join(f"`{Path(s.file).name}`" for s in manifest.shards[:3])
    more = f" and {len(manifest.shards) - 3} more" if len(manifest.shards) > 3 else ""
    layout = (
        f"{files}{more}: token ids, little-endian {manifest.dtype}; beside each, `.index`: where its "
        "documents end, in tokens, little-endian uint64. `manifest.json`: SHA-256 of every file, and all "
        "that is said here."
    )
    return "\n\n".join([layout, *(f"{what}\n\n```python\n{dedent(code)}```" for what, code in pieces)])
