"""The cache belongs to one user: what others put there is neither followed, nor believed, nor removed."""

from __future__ import annotations

import os
import shutil
import stat

import numpy as np
import pytest
import refusals
from decoding_count import rows_decoded
from pictures import make_digits

from labelfix.data.cache import cache_folder
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest

SOMEBODY_ELSE = 54_321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def manifest(tmp_path):
    return Manifest.read(make_digits(tmp_path / "digits", 4))


@pytest.fixture
def folder(manifest, cache):
    """The folder of a store that is whole."""
    ImageStore.open_or_build(manifest, 16, workers=1)
    (folder,) = (entry for entry in (cache / "images").iterdir() if entry.is_dir())
    return folder


def is_built_again(manifest, expected=4):
    assert rows_decoded(lambda: ImageStore.open_or_build(manifest, 16, workers=1)) == expected
    store = ImageStore.open_or_build(manifest, 16, workers=1)
    assert store.images.any(axis=(1, 2, 3)).all()
    return True


def refuses(*words, call=cache_folder):
    refusals.refuses(call, *words, "LABELFIX_CACHE")


class TestFolder:
    def test_it_is_made_private(self, monkeypatch, tmp_path, manifest):
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "a" / "b"))
        before = os.umask(0)
        try:
            ImageStore.open_or_build(manifest, 16, workers=1)
        finally:
            os.umask(before)
        assert mode_of(tmp_path / "a" / "b") == 0o700
        assert mode_of(tmp_path / "a" / "b" / "images") == 0o700
        (lock,) = (tmp_path / "a" / "b" / "images").glob("*.lock")
        assert mode_of(lock) == 0o600

    def test_one_that_labelfix_made_is_made_private_again(self, cache, manifest, folder):
        cache.chmod(0o777)
        (cache / "images").chmod(0o777)
        assert cache_folder() == cache
        assert mode_of(cache) == 0o700
        shutil.rmtree(folder)
        assert is_built_again(manifest)
        assert mode_of(cache / "images") == 0o755

    def test_one_with_other_things_in_it_keeps_its_permissions(self, cache):
        (cache / "work of mine").write_text("")
        cache.chmod(0o755)
        cache_folder()
        assert mode_of(cache) == 0o755

    def test_an_empty_one_that_the_user_names_keeps_its_permissions(self, monkeypatch, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o1777)
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "shared"))
        cache_folder()
        assert mode_of(tmp_path / "shared") == 0o1777

    @needs_root
    def test_that_of_somebody_else_is_refused(self, monkeypatch, tmp_path):
        foreign = tmp_path / "foreign"
        foreign.mkdir(mode=0o777)
        os.chown(foreign, SOMEBODY_ELSE, SOMEBODY_ELSE)
        (tmp_path / "link").symlink_to(foreign)
        for place in (foreign, tmp_path / "link"):
            monkeypatch.setenv("LABELFIX_CACHE", str(place))
            refuses("somebody else's", place)
        mine = tmp_path / "mine"
        mine.mkdir()
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(mine)
        os.lchown(tmp_path / "link", SOMEBODY_ELSE, SOMEBODY_ELSE)
        refuses("somebody else's", tmp_path / "link")

    def test_a_link_of_ones_own_to_ones_own_folder_is_fine(self, monkeypatch, tmp_path, manifest):
        (tmp_path / "large disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "large disk")
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "link"))
        assert is_built_again(manifest)
        assert is_built_again(manifest, 0)


class TestLock:
    @pytest.fixture
    def lock(self, folder):
        """The lock of a store that is gone."""
        shutil.rmtree(folder)
        return folder.with_suffix(".lock")

    @pytest.fixture
    def refused(self, manifest, lock):
        def check(*words):
            refuses(lock, *words, call=lambda: ImageStore.open_or_build(manifest, 16))

        return check

    def test_nothing_is_emptied_or_made_through_it(self, tmp_path, lock, refused):
        """A lock that is a link to a file of the user's must leave the file as it is."""
        precious = tmp_path / "thesis.txt"
        precious.write_text("years of work")
        for target in (precious, tmp_path / "new"):
            lock.unlink()
            lock.symlink_to(target)
            refused("remove it")
        assert precious.read_text() == "years of work"
        assert not (tmp_path / "new").exists()

    def test_what_it_holds_stays(self, manifest, lock):
        lock.write_text("years of work")
        assert is_built_again(manifest)
        assert lock.read_text() == "years of work"

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_a_pipe_or_folder_in_its_place_is_one_line_and_holds_nobody_up(self, lock, refused, make):
        lock.unlink()
        make(lock)
        refused()

    @needs_root
    def test_that_of_somebody_else_is_refused(self, lock, refused):
        os.chown(lock, SOMEBODY_ELSE, SOMEBODY_ELSE)
        refused("of yours")


class TestStore:
    def test_a_file_in_its_place_is_replaced(self, manifest, folder):
        shutil.rmtree(folder)
        folder.write_text("no folder")
        assert is_built_again(manifest)

    def test_a_link_in_its_place_goes_and_what_it_leads_to_stays(self, tmp_path, manifest, folder):
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert is_built_again(manifest)
        assert not folder.is_symlink()
        left = {path.name for path in (tmp_path / "elsewhere").iterdir()}
        assert left == {"facts.npy", "images.npy", "rows.json"}

    def test_a_link_that_a_killed_build_might_have_left_is_not_followed(self, tmp_path, manifest, folder):
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "thesis.txt").write_text("years of work")
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}-x").symlink_to(tmp_path / "precious")
        if os.geteuid() == 0:
            folder.with_name(f"{folder.name}-y").mkdir()
            os.chown(folder.with_name(f"{folder.name}-y"), SOMEBODY_ELSE, SOMEBODY_ELSE)
        assert is_built_again(manifest)
        assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"
        assert os.geteuid() != 0 or folder.with_name(f"{folder.name}-y").is_dir()

    @pytest.mark.parametrize("name", ["rows.json", "images.npy", "facts.npy"])
    def test_links_inside_are_not_believed(self, tmp_path, manifest, folder, name):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        assert is_built_again(manifest)
        assert (tmp_path / name).is_file()

    @needs_root
    @pytest.mark.parametrize("name", [".", "rows.json", "images.npy", "facts.npy"])
    def test_what_somebody_else_put_there_is_not_believed(self, manifest, folder, name):
        np.save(folder / "images.npy", np.ones((4, 3, 16, 16), np.uint8))
        os.chown(folder / name, SOMEBODY_ELSE, SOMEBODY_ELSE)
        assert is_built_again(manifest)
        assert ImageStore.open_or_build(manifest, 16).images.max() > 1
        moved = list(folder.parent.glob("*foreign*"))
        assert [path.lstat().st_uid for path in moved] == ([SOMEBODY_ELSE] if name == "." else [])

    @pytest.mark.parametrize(
        "recorded",
        ["", "{", "[]", "null", '{"errors": ["x"]}', '{"errors": {"0": ["not", "text"]}}', '{"errors": {"one": "x"}}',
         '{"errors": {"4": "x"}}', None, os.mkfifo,
         pytest.param("[" * 100_000, id="nested")],
    )  # fmt: skip
    def test_rows_that_are_broken_or_gone_are_decoded_again(self, manifest, folder, recorded):
        (folder / "rows.json").unlink()
        if callable(recorded):
            recorded(folder / "rows.json")
        elif recorded is not None:
            (folder / "rows.json").write_text(recorded)
        assert is_built_again(manifest)

    @pytest.mark.parametrize("damage", ["longer", "shorter", "fewer", "no size", "endless", "nested"])
    def test_pixels_that_are_not_as_their_header_says_are_decoded_again(self, manifest, folder, damage):
        before = np.array(ImageStore.open_or_build(manifest, 16).images)
        path, shape = folder / "images.npy", b"(4, 3, 16, 16)"
        data = path.read_bytes()
        assert shape in data
        damaged = {
            "longer": data + b"x",
            "shorter": data[:-1],
            "fewer": data.replace(shape, b"(2, 3, 16, 16)"),
            "no size": data.replace(shape, b"(4, 3, 16, -1)"),
            "endless": data.replace(shape, b"(4, 3, 9**9**9)"[: len(shape)]),
            "nested": data[:10] + b"(" * (len(data) - 10),
        }
        path.write_bytes(damaged[damage])
        assert is_built_again(manifest)
        np.testing.assert_array_equal(ImageStore.open_or_build(manifest, 16).images, before)

    def test_one_that_cannot_be_read_is_decoded_again(self, manifest, folder):
        folder.chmod(0)
        assert is_built_again(manifest, 0 if os.geteuid() == 0 else 4)

    def test_a_folder_of_stores_that_is_a_link_or_a_file_is_refused(self, cache, tmp_path, manifest, folder):
        (cache / "images").rename(tmp_path / "moved")
        (cache / "images").symlink_to(tmp_path / "moved")
        refuses(cache / "images", call=lambda: ImageStore.open_or_build(manifest, 16))
        assert ImageStore.find(manifest.image_key, 4, 16) is None
        (cache / "images").unlink()
        (cache / "images").write_text("")
        refuses(cache / "images", call=lambda: ImageStore.open_or_build(manifest, 16))
