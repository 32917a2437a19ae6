"""Reads the texts of a PDF that Chromium printed: each page's, in the order in which it was drawn."""

import re
import zlib


def page_texts(pdf: bytes) -> list[str]:
    """The text of each page, without spaces between lines."""
    objects = {int(number): body for number, body in re.findall(rb"(?s)(?:^|\n)(\d+) 0 obj\n(.*?)\nendobj", pdf)}
    pages = [body for body in objects.values() if re.search(rb"/Type /Page\b", body)]
    return [_page_text(page, objects) for page in pages]


def _page_text(page: bytes, objects: dict[int, bytes]) -> str:
    fonts = {
        name: _characters(_stream(objects[_reference(objects[int(number)], b"ToUnicode")]))
        for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", page)
    }
    text, font = "", next(iter(fonts.values()), {})
    drawn = _stream(objects[_reference(page, b"Contents")])
    for name, glyphs in re.findall(rb"/(F\d+) [\d.]+ Tf|<([0-9A-F]+)> Tj", drawn):
        if name:
            font = fonts[name]
        else:
            text += "".join(font.get(glyphs[at : at + 4], "?") for at in range(0, len(glyphs), 4))
    return text


def _reference(body: bytes, name: bytes) -> int:
    found = re.search(rb"/%s (\d+) 0 R" % name, body)
    assert found, f"no {name.decode()}"
    return int(found[1])


def _stream(body: bytes) -> bytes:
    about, _, rest = body.partition(b"stream\n")
    data = rest.rpartition(b"\nendstream")[0]
    return zlib.decompress(data) if b"/FlateDecode" in about else data


def _characters(cmap: bytes) -> dict[bytes, str]:
    """The character of each glyph, as four hexadecimal digits."""
    found: dict[bytes, str] = {}
    for line in cmap.splitlines():
        codes = [int(code, 16) for code in re.findall(rb"<([0-9A-F]{4})>", line)]
        if len(codes) == 2 and codes != [0, 0xFFFF]:
            codes.insert(1, codes[0])
        if len(codes) == 3:
            first, last, character = codes
            found |= {b"%04X" % code: chr(character + code - first) for code in range(first, last + 1)}
    return found
