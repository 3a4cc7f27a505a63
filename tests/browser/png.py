"""Makes a screenshot small: the same picture with a palette of at most 256 colours."""

import collections
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(data):
    place = len(SIGNATURE)
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place:place + 8])
        yield kind, data[place + 8:place + 8 + length]
        place += length + 12


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows(data, width, height, size):
    """The unfiltered rows; `size` bytes a pixel."""
    length = width * size
    before = bytearray(length)
    for number in range(height):
        start = number * (length + 1)
        kind, row = data[start], bytearray(data[start + 1:start + 1 + length])
        if kind == 1:
            for i in range(size, length):
                row[i] = (row[i] + row[i - size]) & 255
        elif kind == 2:
            for i in range(length):
                row[i] = (row[i] + before[i]) & 255
        elif kind == 3:
            for i in range(length):
                row[i] = (row[i] + ((row[i - size] if i >= size else 0) + before[i]) // 2) & 255
        elif kind == 4:
            for i in range(length):
                left, corner = (row[i - size], before[i - size]) if i >= size else (0, 0)
                row[i] = (row[i] + paeth(left, before[i], corner)) & 255
        yield row
        before = row


def paeth(left, above, corner):
    guess = left + above - corner
    return min((left, above, corner), key=lambda each: abs(guess - each))


def distance(one, other):
    return sum((a - b) ** 2 for a, b in zip(one, other))


def shrink(data):
    """An 8-bit RGB or RGBA picture, not interlaced, becomes one with a palette; transparency is not kept."""
    parts = list(chunks(data))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    assert data.startswith(SIGNATURE) and depth == 8 and kind in (2, 6) and not interlaced
    size = 3 if kind == 2 else 4
    pixels = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    picture = [[tuple(row[i:i + 3]) for i in range(0, len(row), size)] for row in rows(pixels, width, height, size)]

    counted = collections.Counter(colour for row in picture for colour in row)
    palette = [colour for colour, _ in counted.most_common(256)]
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in counted:
        if colour not in index:
            index[colour] = min(range(len(palette)), key=lambda number: distance(palette[number], colour))

    lines = b"".join(b"\0" + bytes(index[colour] for colour in row) for row in picture)
    return b"".join((
        SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", b"".join(bytes(colour) for colour in palette)),
        chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")))
