"""Words and sentences for datatrove's filters, by regular expression.

datatrove's English default is spaCy, which takes four fifths of the whole run and must be installed for it.
"""

import re

from datatrove.utils.word_tokenizers import WordTokenizer

WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+")


class _Sentences(WordTokenizer):
    """A sentence ends with terminal punctuation before white space."""

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        ends = [match.end() for match in SENTENCE_END.finditer(text)]
        if not ends or ends[-1] < len(text):
            ends.append(len(text))
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end].strip() for start, end in self.span_tokenize(text)]


class Punctuated(_Sentences):
    """Punctuation marks are words of their own, as spaCy counts them."""

    def word_tokenize(self, text: str) -> list[str]:
        return WORD.findall(text)


class Whitespace(_Sentences):
    """A word is what stands between blanks."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


WORDS: dict[str, WordTokenizer] = {"punctuated": Punctuated(), "whitespace": Whitespace()}
