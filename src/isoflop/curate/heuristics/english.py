"""English words that are not what their characters say: clitics, abbreviations, faces.

Only a list can know them; this one has what is common in text, and no more.
"""

from collections.abc import Iterator
from string import ascii_lowercase

NEGATED = "do does did is are was were has have had ca could wo would should must might may need dare ought"
NEGATED += " sha ai"
PERSONS, ASKED = "I i you he she it we they", "who what when where why how that this there these those"
PLAIN = "Id id Im im Ive ive can+not gon+na got+ta he+s he+d she+s we+ve we+d they+re they+ve they+ll they+d"
PLAIN += " you+re you+ve you+ll you+d could+ve would+ve should+ve might+ve must+ve"
TITLES = "Mr. Mrs. Ms. Dr. Prof. St. Jr. Co. Inc. Ltd. Corp. Bros. Gen. Gov. Rep. Sen. Rev. Adm. Mt. Ph.D."
TIMES = "a.m. p.m. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec."
ABBREVIATIONS = f"{TITLES} {TIMES} vs. v.s. e.g. i.e. E.g. I.e. co. and/or w/o C++"
SMILES = (
    "): :-) :) (: ;-) ;) :( =) 8) :] :} [: (= (; :/ :1 :3 :0 <3 0.0 :x :p :P :D :o :* :> =/ =[ [= ]= =| :|"
)
FACES = frozenset(["''", *SMILES.split()])
"""Marks that make one word, also where others stand around them."""


def _clitics() -> Iterator[list[str]]:
    """What English runs together: with an apostrophe of either kind, or carelessly without."""
    for stem in NEGATED.split():
        for negation in ("n't", "n’t", "nt"):
            yield [stem, negation]
            yield from ([stem, negation, have] for have in ("'ve", "’ve", "ve"))
    for stem in f"{PERSONS} {ASKED} let".split():
        ends = ["s"] if stem == "let" else ["m"] if stem in "Ii" else ["s", "re"]
        for end in ends if stem == "let" else [*ends, "ll", "d", "ve"]:
            yield from ([stem, f"{mark}{end}"] for mark in "'’")
            if stem in ASKED.split():
                yield [stem, end]
    for parts in PLAIN.split():
        yield parts.split("+") if "+" in parts else [parts[0], parts[1:]]


def _known() -> Iterator[tuple[str, list[str]]]:
    for parts in _clitics():
        yield "".join(parts), parts
        title = [parts[0].capitalize(), *parts[1:]]
        yield "".join(title), title
    for word in (*ABBREVIATIONS.split(), *FACES, *(f"{letter}." for letter in ascii_lowercase)):
        yield word, [word]


KNOWN = dict(_known())
"""Each such word, and what it is made of."""
