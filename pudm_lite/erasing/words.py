"""Lists of concepts to preserve: read from a file, or our own nouns; without what is erased, in any simple form."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from ..errors import UserError

IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
}


def read_words(path: Path | None) -> tuple[str, ...]:
    """One word or phrase a line, each once; empty lines and what follows a # count as nothing. None: our own nouns.

    Raises UserError for a file that cannot be read as UTF-8, or holds none.
    """
    source = files(__package__) / "nouns.txt" if path is None else path
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"cannot read the words of {path} ({reason}): name a text file, a word a line") from None
    words = tuple(dict.fromkeys(filter(None, (" ".join(line.split("#")[0].split()) for line in lines))))
    if not words:
        raise UserError(f"{path} holds no word: put one on each line")
    return words


def singulars(word: str) -> set[str]:
    """The word, and every word that it may be the plural or the possessive of."""
    word = word.casefold().removesuffix("'s").removesuffix("’s").strip(".,;:!?'\"’")
    found = {word, IRREGULAR.get(word, word)}
    if word.endswith("men"):
        found.add(word[:-3] + "man")
    if word.endswith("s") and not word.endswith("ss"):
        found.add(word[:-1])
    if word.endswith("es"):
        found.add(word[:-2])
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    if word.endswith("ves"):
        found |= {word[:-3] + "f", word[:-3] + "fe"}
    return found


def speaks_of(phrase: str, erased: str) -> bool:
    """Whether a phrase holds all words of an erased one, one after another, each in the singular or the plural.

    Whole words alone: a car is not in a carpet.
    """
    ours, theirs = phrase.replace("-", " ").split(), erased.replace("-", " ").split()
    starts = range(len(ours) - len(theirs) + 1)
    return bool(theirs) and any(
        all(singulars(a) & singulars(b) for a, b in zip(ours[at:], theirs, strict=False)) for at in starts
    )


def parted(words: Iterable[str], erased: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Those of the words that speak of nothing erased, and for each of the others what it speaks of.

    A search would find the others first, and preserve what shall go. erased: concepts and synonyms.
    """
    gone = {word: found for word in words for found in erased if speaks_of(word, found)}
    return tuple(word for word in words if word not in gone), gone
