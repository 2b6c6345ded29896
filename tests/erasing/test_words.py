"""Lists of words: read, shipped, and what is taken out of them."""

import pytest

from pudm_lite.erasing.words import parted, read_words, speaks_of
from pudm_lite.errors import UserError


@pytest.mark.parametrize(
    ("phrase", "erased"),
    [
        ("church", "church"),
        ("Church", "church"),
        ("churches", "church"),
        ("church", "churches"),
        ("a church's door", "church"),
        ("old churches, burning", "church"),
        ("garbage trucks", "garbage truck"),
        ("garbage-truck", "garbage truck"),
        ("the red garbage truck", "garbage truck"),
        ("women", "woman"),
        ("firemen", "fireman"),
        ("children", "child"),
        ("buses", "bus"),
        ("horses", "horse"),
        ("ponies", "pony"),
        ("knives", "knife"),
        ("leaves", "leaf"),
    ],
)
def test_forms_of_an_erased_concept(phrase, erased):
    assert speaks_of(phrase, erased)


@pytest.mark.parametrize(
    ("phrase", "erased"),
    [
        ("carpet", "car"),
        ("truck", "garbage truck"),
        ("truck of garbage", "garbage truck"),
        ("glass", "glas"),
        ("woman", "man"),
        ("bell", "church"),
        ("", "church"),
        ("church", ""),
    ],
)
def test_other_concepts(phrase, erased):
    assert not speaks_of(phrase, erased)


def test_a_list_is_parted_with_the_reason_of_each():
    words = ("dog", "churches", "cathedral", "bell tower", "chapel door")
    kept, excluded = parted(words, ("church", "cathedral", "chapel"))
    assert kept == ("dog", "bell tower")
    assert excluded == {"churches": "church", "cathedral": "cathedral", "chapel door": "chapel"}


def test_our_own_nouns_are_some_hundred_each_once():
    nouns = read_words(None)
    assert 300 <= len(nouns) == len({noun.casefold() for noun in nouns}) <= 600
    assert {"church", "dog", "truck", "woman", "road", "bus"} <= set(nouns)
    assert all(noun.isalpha() and noun.islower() for noun in nouns)


def test_a_file_of_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# mine\n dog \n\ngarbage   truck # two words\ndog\ncafé\n".encode())
    assert read_words(path) == ("dog", "garbage truck", "café")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"\xff\xfe\x00", "it is not UTF-8"), (b"# none\n", "holds no word")]
)
def test_files_that_give_no_words(tmp_path, content, said):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_words(path)
