"""Whatever lies in a source: what is stored of it, or the exact record of why it is not."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.convert.sources import OPTIONS, encoded, folder, noise, picture, rejects_in, stored_in, tar
from trainer.data.convert.conversion import convert
from trainer.data.convert.filters import Options
from trainer.data.convert.output import ConversionError
from trainer.data.convert.sources import SourceError


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header says so, of almost no bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def animated(form: str) -> bytes:
    return encoded(noise(64, 64, 1), form, save_all=True, append_images=[noise(64, 64, 2), noise(64, 64, 3)])


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


REJECTED: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "unknown_format", "neither JPEG, PNG nor WebP: it is empty"),
    "text": (b"<html>404</html>", "unknown_format", "neither JPEG, PNG nor WebP: it begins with 3c 68 74 6d 6c 3e 34 30"),
    "gif": (encoded(noise(64, 64), "GIF"), "unknown_format", "neither JPEG, PNG nor WebP: it begins with 47 49 46 38 37 61 40 00"),
    "no-pixels": (png(0, 0), "bad_size", "its header gives it no pixels, or no colours"),
    "no-height": (png(5, 0), "bad_size", "its header gives it no pixels, or no colours"),
    "long": (png(20_001, 3), "bad_size", "has 20001 × 3 pixels, and a side of at most 20,000 is decoded"),
    "bomb": (png(20_000, 20_000), "bad_size", "has 20000 × 20000 pixels, and at most 100 million are decoded"),
    "apng": (animated("PNG"), "animated", "animated: 3 frames"),
    "moving-webp": (animated("WEBP"), "animated", "animated: 3 frames"),
    "truncated-png": (cut_in_half(picture(form="PNG")), "undecodable", "cannot be decoded: image file is truncated"),
    "lying-png": (png(9_000, 9_000), "undecodable", "cannot be decoded: image file is truncated (0 bytes not processed)"),
}


@pytest.fixture(scope="module")
def of_bad_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of every picture of the table and a good one, converted."""
    place = tmp_path_factory.mktemp("bad")
    files = [(f"{key}.png", data) for key, (data, _, _) in REJECTED.items()] + [("good.jpg", picture())]
    tar(place / "in" / "x.tar", [each for name, data in files for each in ((name, data), (f"{name.split('.')[0]}.txt", b"a caption"))])
    convert(str(place / "in"), str(place / "out"), OPTIONS)
    return place / "out"


@pytest.mark.parametrize("key", REJECTED)
def test_a_picture_that_cannot_be_used_is_recorded_with_the_reason(of_bad_pictures: Path, key: str):
    _, reason, because = REJECTED[key]
    assert rejects_in(of_bad_pictures)[f"x/{key}"][0] == reason
    assert rejects_in(of_bad_pictures)[f"x/{key}"][1].startswith(because)


def test_nothing_else_is_left_out_and_all_is_counted(of_bad_pictures: Path):
    assert set(rejects_in(of_bad_pictures)) == {f"x/{key}" for key in REJECTED}
    assert set(stored_in(of_bad_pictures)) == {"x/good"}
    told = json.loads((of_bad_pictures / "dataset.json").read_text())
    assert told["samples"] == 1
    assert sum(told["rejects"].values()) == len(REJECTED)


def test_a_jpeg_cut_short_is_left_out(tmp_path: Path):
    whole = encoded(noise(600, 400), quality=95)
    tar(tmp_path / "in.tar", [("a.jpg", cut_in_half(whole)), ("a.txt", b"a"), ("b.jpg", whole), ("b.txt", b"b")])
    convert(str(tmp_path / "in.tar"), str(tmp_path / "out"), OPTIONS)
    reason, because = rejects_in(tmp_path / "out")["in/a"]
    assert reason == "undecodable"
    assert because == "is no whole JPEG: Premature end of JPEG file"


def kept_colour(out: Path, id: str) -> np.ndarray:
    with Image.open(io.BytesIO(stored_in(out)[id]["image"])) as opened:
        assert opened.mode == "RGB"
        return np.asarray(opened).astype(int)


def test_odd_pictures_are_stored_as_they_look(tmp_path: Path):
    base = noise(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right by a quarter
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    clear = base.copy()
    clear.putalpha(0)
    few = base.quantize(200, dither=Image.Dither.NONE)
    odd = {
        "cmyk": (encoded(base.convert("CMYK"), quality=100), base.convert("CMYK").convert("RGB")),
        "turned": (encoded(base, quality=100, exif=exif), base.transpose(Image.Transpose.ROTATE_270)),
        "sixteen": (encoded(Image.fromarray(grey), "PNG"), Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")),
        "clear": (encoded(clear, "PNG"), Image.new("RGB", (64, 64), "white")),
        "palette": (encoded(few, "PNG"), few.convert("RGB")),
    }
    tar(tmp_path / "x.tar", [each for key, (data, _) in odd.items() for each in ((f"{key}.png", data), (f"{key}.txt", b"odd"))])
    convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), Options(pixels=64, patch=16, quality=100))
    for key, (_, looks) in odd.items():
        difference = np.abs(kept_colour(tmp_path / "out", f"x/{key}") - np.asarray(looks).astype(int))
        assert difference.mean() < 6, key  # what a JPEG loses


def test_what_a_picture_is_follows_from_its_bytes_and_its_own_bytes_are_kept_at_the_right_size(tmp_path: Path):
    right, other = picture(64, 64, form="PNG"), picture(100, 100, form="WEBP")
    tar(tmp_path / "x.tar", [("a.jpg", right), ("a.txt", b"a"), ("b.png", other), ("b.txt", b"b")])
    made = convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), OPTIONS)
    stored = stored_in(tmp_path / "out")
    assert stored["x/a"]["image"] == right
    assert stored["x/b"]["image"].startswith(b"\xff\xd8\xff")
    assert (made.kept, made.enlarged) == (1, 0)


# ---- what surrounds the pictures ------------------------------------------------------------------------------------------------------


def test_records_of_captions_and_keys(tmp_path: Path):
    good = picture()
    files = [("a.jpg", good), ("a.txt", b"first"), ("b.jpg", good), ("c.jpg", good), ("c.json", b'{"caption": "c"}'), ("a.jpg", good)]
    files += [("d.jpg", good), ("d.json", b"{"), ("e.txt", b"alone"), ("f.jpg", good), ("f.txt", b"\xff"), ("g.jpg", good), ("g.png", good)]
    files += [("h.jpg", good), ("h.json", b"[1]"), ("i.jpg", good), ("i.txt", b"  "), ("__notes.txt", b"none"), (".hidden.jpg", b"none")]
    tar(tmp_path / "x.tar", files)
    convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), OPTIONS)
    without = "no caption for the column 'caption': it has neither a .txt file, nor a field 'caption' or 'text'"
    assert rejects_in(tmp_path / "out") == {
        "x/b": ("no_caption", without),
        "x/a": ("duplicate_key", "the key 'a' is there twice; the first one is kept"),
        "x/d": ("bad_metadata", "d.json is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        "x/e": ("no_picture", "no picture (.jpg, .jpeg, .png, .webp) beside e.txt"),
        "x/f": ("bad_caption", "f.txt is not UTF-8 at byte 0"),
        "x/g": ("duplicate_key", "g.jpg and g.png are two pictures of one key"),
        "x/h": ("bad_metadata", "h.json is no JSON object but list"),
        "x/i": ("no_caption", without),
    }
    assert {id: sample["caption"] for id, sample in stored_in(tmp_path / "out").items()} == {"x/a": "first", "x/c": "c"}


def test_a_tar_cut_short_gives_what_is_whole_and_says_where_it_ends(tmp_path: Path):
    good = picture()
    whole = tar(
        tmp_path / "x.tar", [(f"{i}.{kind}", data) for i in range(3) for kind, data in (("jpg", good), ("txt", b"caption"))]
    ).read_bytes()
    last_picture = whole.rindex(b"\xff\xd8\xff")
    results = {}
    for name, end in (("middle", last_picture + 100), ("header", last_picture - 300), ("boundary", last_picture - 512)):
        (tmp_path / f"{name}.tar").write_bytes(whole[:end])
        convert(str(tmp_path / f"{name}.tar"), str(tmp_path / name), OPTIONS)
        results[name] = rejects_in(tmp_path / name), len(stored_in(tmp_path / name))
    end = last_picture + len(good)
    told = f"the tar ends at byte {last_picture + 100:,}, in the middle of 2.jpg, which goes to {end:,}"
    assert results["middle"] == ({"middle/2": ("tar_cut_short", told)}, 2)
    for name, size in (("header", last_picture - 300), ("boundary", last_picture - 512)):
        told = f"the tar has no end: nothing that can be read follows 1.txt, of {size:,} bytes"
        assert results[name] == ({f"{name}/1": ("tar_cut_short", told)}, 1)


def test_a_file_that_is_no_tar_is_one_record(tmp_path: Path):
    tar(tmp_path / "in" / "a.tar", [("a.jpg", picture()), ("a.txt", b"a")])
    (tmp_path / "in" / "b.tar").write_bytes(b"<html>not found</html>" * 100)
    convert(str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)
    assert rejects_in(tmp_path / "out") == {"b/": ("tar_cut_short", "no tar: invalid header")}


def test_a_folder_with_metadata_says_which_pictures_are_not_there(tmp_path: Path):
    rows = [{"file_name": "a.jpg", "caption": "of a", "score": 3}, {"file_name": "sub/b.png", "caption": "of b"}, {"file_name": "gone.jpg"}]
    lines = "\n".join(map(json.dumps, rows)).encode()
    folder(tmp_path / "set", {"metadata.jsonl": lines, "a.jpg": picture(), "sub/b.png": picture(form="PNG"), "c.jpg": picture()})
    convert(str(tmp_path / "set"), str(tmp_path / "out"), OPTIONS)
    assert {id: sample["caption"] for id, sample in stored_in(tmp_path / "out").items()} == {"set/a": "of a", "set/sub/b": "of b"}
    rejects = rejects_in(tmp_path / "out")
    assert rejects.pop("set/gone") == ("no_picture", "metadata.jsonl names gone.jpg, which is not there")
    assert set(rejects) == {"set/c"}


def test_filters_say_what_was_too_small_too_long_or_too_plain(tmp_path: Path):
    files = []
    for key, (width, height, score) in {
        "a": (90, 60, "6"),
        "b": (30, 60, "6"),
        "c": (300, 60, "6"),
        "d": (90, 60, "4.5"),
        "e": (90, 60, "x"),
    }.items():
        files += [(f"{key}.jpg", picture(width, height)), (f"{key}.json", json.dumps({"caption": key, "score": score}).encode())]
    tar(tmp_path / "x.tar", files)
    options = Options(pixels=64, patch=16, min_side=40, max_ratio=3, at_least=(("score", 5),), columns=(("score", "float64"),))
    convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), options)
    assert rejects_in(tmp_path / "out") == {
        "x/b": ("too_small", "30 × 60 pixels: its shorter side is less than 40"),
        "x/c": ("too_long", "300 × 60 pixels: its sides are 1 to 5.00, more than 3"),
        "x/d": ("below_least", "score is 4.5, less than 5"),
        "x/e": ("bad_field", "the field 'score' is no float64: 'x'"),
    }
    assert stored_in(tmp_path / "out")["x/a"]["score"] == 6.0


# ---- what nothing can be made of ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "because"),
    [
        ({}, "none of its 0 files is a .tar, a .parquet or a picture (.jpg, .jpeg, .png, .webp)"),
        ({"notes.md": b""}, "none of its 1 files is a .tar, a .parquet or a picture (.jpg, .jpeg, .png, .webp)"),
        (
            {"a.tar": b"", "b.png": b""},
            "holds 1 of kind tar (such as a.tar) and 1 of kind folder (such as b.png): convert one kind at a time, from a folder each",
        ),
        ({"a.png": b"", "metadata.csv": b"name,caption\na,b\n"}, "metadata.csv line 2: no 'file_name'; each line names its picture there"),
    ],
)
def test_a_source_of_nothing_is_refused(tmp_path: Path, files: dict[str, bytes], because: str):
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError) as refused:
        convert(str(folder(tmp_path / "in", files)), str(tmp_path / "out"), OPTIONS)
    assert str(refused.value).endswith(because)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="there is no such folder; a folder, one tar or parquet file, or s3://bucket/prefix would do"):
        convert(str(tmp_path / "none"), str(tmp_path / "out"), OPTIONS)


def test_a_source_without_one_usable_sample_makes_no_data_set(tmp_path: Path):
    tar(tmp_path / "x.tar", [("a.jpg", b"nothing"), ("a.txt", b"a")])
    with pytest.raises(ConversionError, match=r"not one sample can be used: \{'unknown_format': 1\}; the first: x/a: neither JPEG"):
        convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), OPTIONS)
    assert not (tmp_path / "out" / "dataset.json").exists()
