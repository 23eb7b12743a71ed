"""What the ids of a `tokenizer.json` stand for, read from the file itself: no tokenizer need be installed."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "▁"  # SentencePiece's


class Token(NamedTuple):
    """A token as it is shown, and the bytes of text that it stands for: none for a special one."""

    shown: str
    bytes: int


def read_vocabulary(path: Path) -> dict[int, Token]:
    """Every id that the file names; nothing where it is no tokenizer.json or is not there."""
    try:
        tree = json.loads(path.read_bytes())
        model = tree["model"]["vocab"]
        pairs = model.items() if isinstance(model, dict) else ((t, n) for n, (t, _) in enumerate(model))
        decode = _byte_level if _has_byte_level(tree.get("decoder")) else _sentence_piece
        tokens = {number: decode(text) for text, number in pairs}
        for added in tree.get("added_tokens") or ():
            size = 0 if added.get("special") else len(added["content"].encode())
            tokens[added["id"]] = Token(added["content"], size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return tokens


def _has_byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, dict):
        return False
    parts = decoder.get("decoders") or [decoder]
    return any(part.get("type") == "ByteLevel" for part in parts)


def _byte_level(text: str) -> Token:
    """One character a byte: GPT-2's way to write all 256 of them visibly (Radford et al. 2019)."""
    raw = bytes(BYTE_OF.get(character, 0x3F) for character in text)
    return Token(raw.decode("utf-8", "backslashreplace"), len(raw))


def _sentence_piece(text: str) -> Token:
    if BYTE.fullmatch(text):
        return Token(text, 1)
    plain = text.replace(SPACE, " ")
    return Token(plain, len(plain.encode("utf-8", "surrogatepass")))


def _byte_alphabet() -> dict[str, int]:
    """Bytes that print in Latin-1 are themselves; the others, in their order, the characters from 256 on."""
    printing = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in printing]
    return {chr(b): b for b in printing} | {chr(256 + n): b for n, b in enumerate(others)}


BYTE_OF = _byte_alphabet()
