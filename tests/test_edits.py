"""An edit as a file: applied to the network that it was made from, and to no other."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny_pipelines import tiny_pipeline

from pudm_lite.edits import apply_edit, fingerprint, read_edit, save_edit
from pudm_lite.errors import UserError


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("edits"))


@pytest.fixture
def unet(pipeline):
    """The pipeline's U-Net, given back as it was."""
    before = copy.deepcopy(pipeline.unet.state_dict())
    yield pipeline.unet
    pipeline.unet.float().load_state_dict(before)


def an_edit(unet, path, scale=2.0):
    changed = {name: scale * value for name, value in unet.state_dict().items() if "attn2.to_k" in name}
    save_edit(path, unet, changed, {"pipeline": "tiny", "method": "twice"})
    return changed


def test_what_is_saved_is_applied_and_nothing_else_changes(pipeline, unet, tmp_path):
    changed = an_edit(unet, tmp_path / "e.safetensors")
    before = copy.deepcopy(unet.state_dict())
    assert apply_edit(pipeline, tmp_path / "e.safetensors") == {"pipeline": "tiny", "method": "twice"}
    assert len(changed) == 4
    for name, value in unet.state_dict().items():
        assert torch.equal(value, changed.get(name, before[name]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_fits_the_same_network_in_half_precision(pipeline, unet, tmp_path, dtype):
    changed = an_edit(unet, tmp_path / "e.safetensors")
    unet.to(dtype)
    apply_edit(pipeline, tmp_path / "e.safetensors")
    for name, value in changed.items():
        assert torch.equal(unet.state_dict()[name], value.to(dtype))


def test_another_network_is_refused_and_left_as_it_was(pipeline, unet, tmp_path):
    an_edit(unet, tmp_path / "e.safetensors")
    apply_edit(pipeline, tmp_path / "e.safetensors")
    before = copy.deepcopy(unet.state_dict())
    with pytest.raises(UserError, match="was made from another network, 'tiny' as it was then"):
        apply_edit(pipeline, tmp_path / "e.safetensors")  # a second time: it is another network by now
    assert all(torch.equal(before[name], value) for name, value in unet.state_dict().items())


@pytest.mark.parametrize(
    "spoil", [{"gone.weight": torch.zeros(2)}, {"conv_in.weight": torch.zeros(2)}, {"conv_in.bias": torch.zeros(1)}]
)
def test_tensors_that_the_network_lacks_are_refused_before_any_is_applied(pipeline, unet, tmp_path, spoil):
    changed = {name: 2 * value for name, value in unet.state_dict().items() if "attn2.to_k" in name}
    save_edit(tmp_path / "e.safetensors", unet, changed | spoil, {"pipeline": "tiny"})
    before = fingerprint(unet, torch.float32)
    with pytest.raises(UserError, match="another network"):
        apply_edit(pipeline, tmp_path / "e.safetensors")
    assert fingerprint(unet, torch.float32) == before


def test_a_fingerprint_sees_names_shapes_and_numbers(unet):
    before = fingerprint(unet, torch.float32)
    assert fingerprint(copy.deepcopy(unet), torch.float32) == before
    with torch.no_grad():
        unet.conv_out.bias[0] += 1e-6
    assert fingerprint(unet, torch.float32) != before
    alike = [torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(3, 2, bias=False)]
    alike[2] = torch.nn.ModuleDict({"under": alike[2]})
    for network in alike:
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
    assert len({fingerprint(network, torch.float32) for network in alike}) == 3


@pytest.mark.parametrize("spoilt", ["text", "no metadata", "missing"])
def test_files_that_are_no_edits(pipeline, tmp_path, spoilt):
    path = tmp_path / "e.safetensors"
    if spoilt == "text":
        path.write_text("not tensors")
    elif spoilt == "no metadata":
        save_file({"a": torch.zeros(1)}, path)
    for read in (read_edit, lambda path: apply_edit(pipeline, path)):
        with pytest.raises(UserError, match="is no edit: name a file that"):
            read(path)


def test_a_file_is_written_whole_or_not_at_all(unet, tmp_path, monkeypatch):
    path = tmp_path / "e.safetensors"
    an_edit(unet, path)
    before = path.read_bytes()

    def torn(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", torn)
    with pytest.raises(UserError, match="No space left on device"):
        an_edit(unet, path, scale=3.0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_sentence_also_from_the_library_that_writes(unet, tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*e\.safetensors .*No space left.*: make room"):
        an_edit(unet, tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())
