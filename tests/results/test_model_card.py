"""The card of a run: what it says of images of one's own, an estimated beta, and of what was not measured."""

from made_rows import row

from pudm_lite.results.model_card import model_card

OWN = {
    **{"experiment": "own-1", "images": "pets", "normal": "cat", "sensitive": "dog", "image_size": 32},
    **{"labelled": 60, "parameters": 1000, "realised_share": None},
}


def card(**more) -> str:
    return model_card(row() | OWN | more, "me/pets")


def test_images_of_ones_own_are_described_by_their_folder_and_classes():
    text = card()
    assert "# pets, Proposed" in text
    assert "of images of 32 x 32, trained" in text
    assert "called pets; normal: cat, sensitive: dog; 60 labelled sensitive images, nobody knows how many" in text
    assert "9.1% hidden in U" in card(realised_share=0.0909)


def test_where_beta_came_from():
    assert "Assumed sensitive share: 0.1." in card()
    assert "Assumed sensitive share: 0.12, estimated, [0.100, 0.150]." in card(beta=0.12, beta_low=0.1, beta_high=0.15)
    assert "The method assumes no share" in card(method="supervised")
    assert ", from a/model, seed" in card(pretrained="a/model")


def test_what_was_not_measured_is_said_so():
    bare = {key: value for key, value in (row() | OWN).items() if "rate" not in key and "frechet" not in key}
    text = model_card(bare | {"not_measured": "non-sensitive rate (no judge)", "learning_rate": 1}, "me/pets")
    assert "Nothing: pets, nnpu: n = 2000; not measured: non-sensitive rate (no judge)." in text
