"""Image files to pixels and back: every kind that is taken, and everything that is refused."""

import base64
import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kandinsky.wire import images
from kandinsky.wire.errors import KandinskyError, Reason

seeded = settings(derandomize=True, deadline=None)
every_format = pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """An image that lossy formats keep nearly whole."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], -1).astype("u1")


def saved(image: Image.Image, format: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format.upper(), **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_header_only(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return MAGIC["png"] + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def refused(data: bytes, **options) -> str:
    """The description with which `decode` refuses a file, at its field."""
    with pytest.raises(KandinskyError) as caught:
        images.decode(data, "image.encoded", **options)
    assert caught.value.reason is Reason.INVALID_FIELD
    [violation] = caught.value.violations
    assert violation.field == "image.encoded"
    return violation.description


@pytest.mark.parametrize("format", ["png", "webp"])
@seeded
@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_lossless_round_trip(format, height, width, seed):
    pixels = noise(height, width, seed=seed)
    np.testing.assert_array_equal(images.decode(images.encode(pixels, format), "f"), pixels)


@pytest.mark.parametrize(("format", "quality"), [("jpeg", None), ("jpeg", 90), ("webp", 90)])
def test_lossy_round_trip(format, quality):
    pixels = smooth()
    back = images.decode(images.encode(pixels, format, quality), "f")
    assert (back.shape, back.dtype) == (pixels.shape, np.uint8)
    error = np.abs(back.astype(int) - pixels).mean()
    assert 0 < error < 4


@every_format
def test_a_file_is_of_its_format(format):
    assert images.encode(smooth(), format).startswith(MAGIC[format])


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_is_heeded(format):
    sizes = [len(images.encode(noise(64, 64), format, quality)) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))


def test_jpeg_without_a_quality_has_the_default():
    pixels = noise(32, 32)
    default = images.encode(pixels, "jpeg", images.DEFAULT_JPEG_QUALITY)
    assert images.encode(pixels, "jpeg") == default
    assert default != images.encode(pixels, "jpeg", 75)


@every_format
@pytest.mark.parametrize("kept", [0, 1, 8, 0.25, 0.5, 0.9])
def test_a_truncated_file_is_refused(format, kept):
    data = images.encode(noise(64, 64), format)
    refused(data[: kept if isinstance(kept, int) else int(len(data) * kept)])


@seeded
@given(st.binary(max_size=200), st.sampled_from([b"", *MAGIC.values(), b"RIFF\x20\0\0\0WEBPVP8 "]))
def test_random_bytes_are_refused(data, magic):
    refused(magic + data)


@pytest.mark.parametrize("format", ["gif", "bmp", "tiff", "ppm"])
def test_other_formats_are_refused(format):
    assert refused(saved(Image.fromarray(smooth()), format)) == "is not a PNG, JPEG or WebP file"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 10_000), (4097, 4096)])
def test_a_bomb_is_refused_by_its_header(width, height):
    tracemalloc.start()
    try:
        description = refused(png_of_header_only(width, height))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"the most is {images.MAX_PIXELS}" in description
    assert peak < 2**20


def test_the_limit_on_pixels_is_a_limit_on_their_product():
    data = images.encode(noise(4, 6), "png")
    assert images.decode(data, "f", max_pixels=24).shape == (4, 6, 3)
    assert "6x4 pixels" in refused(data, max_pixels=23)


@pytest.mark.parametrize("format", ["webp", "png"])
def test_an_animation_is_refused(format):
    first, second = Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, seed=1))
    data = saved(first, format, save_all=True, append_images=[second])
    assert "animated" in refused(data)


def test_a_photo_with_others_behind_it_is_the_first():
    first, second = Image.fromarray(smooth()), Image.fromarray(noise(48, 64))
    data = saved(first, "mpo", save_all=True, append_images=[second])
    assert np.abs(images.decode(data, "f").astype(int) - smooth()).mean() < 4


@pytest.mark.parametrize("decode", [images.decode, images.decode_mask])
def test_a_palette_image_without_a_palette_is_refused(decode):
    data = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAMAAACeL25MAAAAC0lEQVR42mNgwAQAABQAAe5aaQkAAAAASUVORK5CYII="
    )
    with pytest.raises(KandinskyError) as caught:
        decode(data, "mask.encoded")
    assert caught.value.reason is Reason.INVALID_FIELD
    [violation] = caught.value.violations
    assert (violation.field, "broken" in violation.description) == ("mask.encoded", True)


def test_whatever_else_pillow_raises_is_the_files_fault():
    """A colour profile without its parts, behind the pixels, is an IndexError in Pillow 13."""
    data = saved(Image.fromarray(smooth()))
    assert "broken" in refused(data[:-12] + chunk(b"iCCP", b"a\0") + data[-12:])


def test_running_out_of_memory_is_not_the_files_fault(monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(MemoryError):
        images.decode(saved(Image.fromarray(smooth())), "f")


def test_grey_and_one_bit_become_rgb():
    grey = noise(5, 7)[..., 0]
    assert (images.decode(saved(Image.fromarray(grey)), "f") == grey[..., None]).all()
    bits = Image.fromarray(grey).convert("1")
    expected = np.asarray(bits.convert("RGB"))
    np.testing.assert_array_equal(images.decode(saved(bits), "f"), expected)


def test_a_palette_becomes_its_colours():
    image = Image.fromarray(noise(5, 7)).quantize(8)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(images.decode(saved(image), "f"), expected)


def test_sixteen_bits_are_scaled_and_not_clipped():
    grey = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = images.decode(saved(Image.fromarray(grey)), "f")
    assert decoded[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_cmyk_becomes_rgb():
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0] = 255  # full cyan
    data = saved(Image.fromarray(inks, "CMYK"), "jpeg", quality=100)
    decoded = images.decode(data, "f").astype(int)
    assert np.abs(decoded - [0, 255, 255]).max() < 6


@pytest.mark.parametrize("format", ["png", "webp"])
def test_transparency_is_laid_over_white(format):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    decoded = images.decode(saved(Image.fromarray(rgba), format, lossless=True), "f")
    assert decoded[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


def test_grey_with_alpha_is_laid_over_white():
    image = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8))
    assert image.mode == "LA"
    assert images.decode(saved(image), "f")[0].tolist() == [[10] * 3, [255] * 3]


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putpixel((1, 0), 1)
    decoded = images.decode(saved(image, transparency=1), "f")
    assert decoded[0].tolist() == [[1, 2, 3], [255, 255, 255]]


@pytest.mark.parametrize(
    ("dtype", "level", "rest"), [(np.uint8, 128, 5), (np.uint16, 32768, 1285)], ids=["8", "16"]
)
def test_a_transparent_grey_level_is_white(dtype, level, rest):
    image = Image.fromarray(np.array([[level, rest]], dtype))
    decoded = images.decode(saved(image, transparency=level), "f")
    assert decoded[0].tolist() == [[255] * 3, [5] * 3]


@every_format
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:16, :8], upright[:16, 8:], upright[16:, :8] = 255, 170, 85  # four corners, four greys
    turned = {  # what a camera stored, by EXIF's table of row 0 and column 0
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if format == "jpeg" else {"lossless": True}
    data = saved(Image.fromarray(turned), format, exif=exif.tobytes(), **options)
    decoded = images.decode(data, "f").astype(int)
    assert decoded.shape == upright.shape == (*images.size(data, "f"), 3)
    assert np.abs(decoded - upright).max() < 8


def test_an_orientation_after_the_pixels_is_applied_and_known_before_decoding():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(4, 6)
    plain = saved(Image.fromarray(pixels))
    end = chunk(b"IEND", b"")
    data = plain.removesuffix(end) + chunk(b"eXIf", exif.tobytes()[6:]) + end
    assert images.size(data, "f") == (6, 4)
    np.testing.assert_array_equal(images.decode(data, "f"), np.rot90(pixels, -1))


@every_format
def test_the_size_is_read_without_decoding(format, monkeypatch):
    data = saved(Image.fromarray(noise(4, 6)), format)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert images.size(data, "f") == (4, 6)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(4, 6)
    data = saved(Image.fromarray(pixels), exif=exif.tobytes())
    np.testing.assert_array_equal(images.decode(data, "f"), pixels)


def test_a_broken_tag_beside_the_orientation_does_no_harm():
    """Pillow's own exif_transpose rewrites every tag, and dies of a resolution of bytes."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x011A, 7, 4, 0)
    exif = b"MM\x00*" + struct.pack(">IH", 8, 2) + entries + struct.pack(">I", 0)
    pixels = noise(4, 6)
    data = saved(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(images.decode(data, "f"), np.rot90(pixels, -1))


def test_a_mask_is_the_luminance_under_its_transparency():
    """As `convert("L")` of diffusers: a stroke on nothing is a white stroke on black."""
    rgba = np.array([[[255, 255, 255, 255], [0, 0, 0, 0], [90, 90, 90, 10]]], np.uint8)
    levels, two_level = images.decode_mask(saved(Image.fromarray(rgba)), "f")
    assert (levels.tolist(), two_level) == ([[255, 0, 90]], False)


def test_a_mask_of_sixteen_bits_is_scaled():
    grey = np.array([[0, 257, 32768, 65535]], np.uint16)
    levels, _ = images.decode_mask(saved(Image.fromarray(grey)), "f")
    assert levels.tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize(("mode", "expected"), [("1", True), ("P", True), ("L", False)])
def test_a_mask_of_one_bit_or_a_palette_is_two_level(mode, expected):
    white = Image.new("L", (3, 2), 255).convert(mode)
    levels, two_level = images.decode_mask(saved(white), "f")
    assert (levels == 255).all()
    assert two_level is expected


def _seeds_of_mutation() -> list[bytes]:
    image = Image.fromarray(noise(9, 7))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "words", (72, 1)
    rgba = Image.fromarray(noise(9, 7, 4))
    return [
        *(saved(image, format, exif=exif.tobytes()) for format in MAGIC),
        saved(image.quantize(4), transparency=1),
        saved(image.convert("1")),
        saved(image.convert("LA")),
        saved(Image.fromarray(noise(9, 7)[..., 0].astype(np.uint16) * 257), transparency=257),
        saved(image.convert("L"), "jpeg"),
        saved(image.convert("CMYK"), "jpeg"),
        saved(image, "jpeg", progressive=True),
        saved(rgba),
        saved(rgba, "webp"),
        saved(rgba, "webp", lossless=True),
        saved(image, "mpo", save_all=True, append_images=[image]),
        saved(image, save_all=True, append_images=[Image.fromarray(noise(9, 7, seed=1))]),
    ]


def _chunks(png: bytes) -> list[bytes]:
    """The chunks of a PNG, each with a checksum that is right whatever it says."""
    chunks, at = [], 8
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        chunks.append(chunk(png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks


def _damaged(original: bytes, draw: random.Random) -> bytes:
    """The file with some bytes changed, or a PNG with whole chunks dropped or repeated."""
    if original.startswith(MAGIC["png"]) and draw.random() < 0.3:
        chunks = _chunks(original)
        del chunks[draw.randrange(len(chunks))]
        chunks.insert(draw.randrange(len(chunks) + 1), draw.choice(chunks))
        return MAGIC["png"] + b"".join(chunks)
    data = bytearray(original)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        data[draw.randrange(len(data))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return MAGIC["png"] + b"".join(_chunks(data)) if data.startswith(MAGIC["png"]) else bytes(data)


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_changed_bytes_is_pixels_or_refused():
    draw = random.Random(0)
    outcomes = set()
    originals = _seeds_of_mutation()
    for _ in range(6000):
        file = _damaged(draw.choice(originals), draw)
        for decode in (images.decode, images.decode_mask):
            try:
                pixels = decode(file, "f")
            except KandinskyError as error:
                assert error.reason is Reason.INVALID_FIELD
                outcomes.add("refused")
                continue
            levels = pixels[0] if isinstance(pixels, tuple) else pixels[..., 0]
            assert (levels.dtype, levels.ndim) == (np.uint8, 2)
            assert isinstance(pixels, tuple) or pixels.shape[2] == 3
            assert images.size(file, "f") == levels.shape
            outcomes.add("pixels")
    assert outcomes == {"refused", "pixels"}
