"""Documents for the heuristic filters: found, spoilt around every threshold, and made of awkward pieces."""

import random
import sys
import sysconfig
from functools import cache
from pathlib import Path

from curation import WORDS, edited, prose
from datatrove.utils.word_tokenizers import SpaCyTokenizer

from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.installed import Page, _render

AWKWARD = """): :) :( (: '' ' " ` foo: foo:) f(x): x' ''y 'd', 's' '); "'a'" a. vs. (vs.) e.g., z.B. it's
It’s can't, cannot don't). I'm we've he'd. John's dogs' O'Brien id id. and/or w/o C++ --flag=x
a--b well-known 3-4 x+y 1,000 a,b 5km 20% $3.50 http://a.org/x?y=1. www.b.com/path/ me@c.net,
/usr/lib/. C:\\dir ... …and wait.... etc. U.S. U.S.A., Ph.D. 5p.m. [1] [edit] <br/> {x} x=1 #tag
@you * - • — – 「日本語。」 これは文です。 Привет, мир! ёлка. שלום؟ ١٢٣ ไทย 😀 👍🏽ok a\u200bb naïve café. ª²³
A.B c.D 1.5 v1.2. !!! ?! ?). ." word.) end.] x.” y.’ IS_ALPHA2 _init_ __x__ :-) ;-) <3 =) 8) :/
o.O ^_^ :1 0.0 ---- ==== (((a))) ''''"""
PIECES = AWKWARD.split()
BLANKS = [" "] * 12 + [
    "  ",
    "\n",
    "\n\n",
    "\t",
    " \n",
    "\u00a0",
    "\u3000",
    " \u00a0",
    "\r\n",
    "\x1c",
    "\u2028",
]


def awkward(seed: int, pieces: int = 60) -> str:
    """Pieces on which tokenizers differ, with blanks of every kind."""
    draw = random.Random(seed)
    return "".join(draw.choice(PIECES) + draw.choice(BLANKS) for _ in range(draw.randint(0, pieces)))


@cache
def found(most: int = 16) -> tuple[str, ...]:
    """Pages made of Python's own modules, extracted: prose, lists, tables and code."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    modules = [path for name in sorted(sys.stdlib_module_names) if (path := stdlib / f"{name}.py").is_file()]
    picked = random.Random(5).sample(modules, 4 * most)
    extract = EXTRACTORS["resiliparse"]().extract
    texts = (
        extract(html).strip()[:9_000]
        for path in picked
        for _, html in _render(Page("module", "", "", str(path)))
    )
    return tuple([text for text in texts if len(text) > 600][:most])


@cache
def spoilt() -> tuple[str, ...]:
    """Prose with more and more of what each rule counts, from too little to too much."""
    words = [word.strip(".") for word in prose(101, words=200).split()]
    sentences = prose(100, words=150).replace("\n\n", " ").split(". ")
    line = "This very line stands in the page more than once, word for word, as menus do."
    texts = [" ".join(words[:n]) + "." for n in (2, 49, 50, 51)]
    texts += [f"{prose(n, 100)}\n" + "\n".join([line] * n) for n in range(1, 9, 2)]
    texts += [f"{prose(n, 60)}\n\n" * n for n in range(1, 5)]
    texts += [prose(n, 100) + "\n\nsame" * n + "\n\n\n" for n in range(1, 30, 6)]
    texts += [prose(3, 150) + f" {' '.join(words[:n])}" * 4 for n in range(1, 14, 2)]
    texts += [" ".join(["water", *words[:n], "water"] * 30) for n in range(0, 9, 2)]
    texts += [" ".join([*words[:200], *["…"] * n]) + "." for n in (19, 21, 23)]
    texts += [
        "\n".join(f"{words[n]} {'x' * 99}"[:n] + "." for n in (*[29] * k, *[30] * 30)) for k in (59, 64)
    ]
    rows = [f"{words[n]} {n} {'x' * 39}"[:39] + "." for n in range(90)]
    # Of the characters a tenth is repeated: more without line ends and less with them, or exactly
    texts += ["\n".join([*rows[:n], *[rows[0]] * 10]) for n in (88, 90)]
    texts += [prose(4, 900) + f"\n{line}" * 2, "\n".join(f"- {s}, the and to." for s in sentences)]
    for n in range(0, 10, 2):
        texts.append(" ".join(str(k * 7919) if k % 10 < n else w for k, w in enumerate(words)))
        texts.append("\n".join(f"{s}{'...' if k % 10 < n else '.'}" for k, s in enumerate(sentences)))
        texts.append("\n".join(f"{s}{'.' if k % 10 < n else ' so'}" for k, s in enumerate(sentences * 2)))
        texts.append("\n".join(s if k % 10 < n else s[:25] + "." for k, s in enumerate(sentences)))
        texts.append(" ".join(w * (1 + n // 3) if k % 2 else w[:n] or w for k, w in enumerate(words)))
        texts.append(" ".join(w for w in words if w not in WORDS[n : n + 8]) + ".")
        texts.append(" ".join(f"{w} #" if k % 50 < 5 * n else w for k, w in enumerate(words)))
        texts.append(" ".join(f"{w} …" if k % 50 < 5 * n else w for k, w in enumerate(words)))
        texts.append(" ".join(f"{s}." for s in sentences[:n]))
        texts.append("\n".join(f"{' '.join(words[k : k + n + 1])}." for k in range(0, 150, 2)))
    return tuple(texts)


@cache
def banned() -> tuple[str, ...]:
    """Lines and phrases that C4 looks for, hidden by citations and case."""
    texts = [
        f"{prose(8)} Lorem ipsum dolor.",
        f"{prose(9)}\nfunction() {{ return 1 }}\nlorem ipsum",
        f"{prose(10)}\nPlease enable Java[1]Script in your browser now.\nThis site uses cookies for all.",
        f"{prose(17)}\nPlease enable Java[12]Script in your browser now.",
        f"{prose(11)}\nterms of\u2028use\nTerms of Use apply here.\n[1] [2] [3]\nprivacy[edit] policy of us",
        f"{prose(12)}\n{'x' * 1001} is a long word\n{'y' * 1000} is not\n\n  two words  \n three of them",
        'First. [1]  [2]\nSecond one here.  [citation needed]  \nThe third.)  )\nFourth. " x\n',
        "One two three!  \n[1] [2] [3]\n  [4]\nIS_ALPHA is here. And IS_ALPHA there? Yes. No. So. It. Is.",
        "A b c. D e f? G h i! (J k l.) M n o。P q r",
        "",
        " \n \n",
        "\n\n",
        "日本語の文章がここにあります。" * 30,
        f"{prose(13)} IS_ALPHA {prose(14)}",
        "IS_ALPHA\n" * 60,
        edited(prose(15), 1, 0.3) + "\n\n\n\n\n" + prose(16),
    ]
    return tuple(texts)


def steady(stock: SpaCyTokenizer) -> SpaCyTokenizer:
    """`stock`, whose answer about IS_ALPHA would else depend on whether it has met it before."""
    stock.tokenizer.tokenizer("IS_ALPHA")  # outside a memory zone
    return stock
