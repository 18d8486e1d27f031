"""Opening a file of text: packed or not, in whichever of Unicode's encodings it is written."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

# How files are unpacked that end so, by the standard library alone.
PACKED: Final[dict[str, Callable[[Path], Any]]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
# A packed file may grow to this many bytes, or to this many times its size, whichever is more: a
# few kilobytes of a hostile file can unpack to terabytes. Text shrinks three- to twentyfold.
_UNPACKED_BYTES: Final = 256 * 2**20
_UNPACKED_TIMES: Final = 100
_LONGEST_LINE: Final = 64 * 2**20
_CHUNK: Final = 2**20

_MARKS = (  # longer marks first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Western text in one byte per letter looks like where it is not ASCII: letters, quotes, signs.
_LATIN = frozenset(range(0xC0, 0xFE)) | frozenset(b"\x80\x85\x91\x92\x93\x94\x96\x97\xa3\xa7\xab")
_LATIN |= frozenset(b"\xb0\xb1\xb2\xb3\xb5\xb7\xbb\xbc\xbd\xbe\xbf\xa1")


def unpacked_suffix(path: Path) -> str:
    """Returns the ending that tells a file's kind: `.jsonl` of `train.jsonl.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


def unpacked_stem(path: Path) -> str:
    """Returns a file's name without the endings that tell its kind."""
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def open_text(path: Path, where: str) -> IO[bytes]:
    """Opens a file of text as bytes of UTF-8 without a byte order mark.

    A packed file is unpacked as it is read. UTF-16 and UTF-32 are told by their byte order mark,
    UTF-16 also by the zeros beside ASCII letters.

    Args:
        path: Path of the file.
        where: Name of the file, for messages.

    Raises:
        ValueError: While it is read, if it is damaged or unpacks to too much; one line.
    """
    opener = PACKED.get(path.suffix.lower())
    if opener is None:
        file = io.BufferedReader(io.FileIO(path), _CHUNK)
    else:
        raw: Any = _Unpacked(opener(path), os.path.getsize(path), where)
        file = io.BufferedReader(raw, _CHUNK)

    start = file.peek(4)[:4]
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if encoding is None and len(start) > 1 and (start[0] == 0) != (start[1] == 0):
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    if encoding is not None:
        as_utf8: Any = _AsUtf8(file, encoding, where)
        return io.BufferedReader(as_utf8, _CHUNK)

    if start.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return file


def read_lines(path: Path, where: str, faults: Utf8Faults) -> Iterator[tuple[int, str]]:
    r"""Yields the lines of a file of text that are not blank, and their numbers from 1.

    Lines end with `\n` or `\r\n`: the other characters that Unicode counts as line ends may stand
    in a text.

    Args:
        path: Path of the file.
        where: Name of the file, for messages.
        faults: Decodes the lines, and counts those that are damaged.

    Raises:
        ValueError: As `open_text`, or if a line is too long.
    """
    with open_text(path, where) as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"{where}: line {number} is longer than {_LONGEST_LINE} bytes")
            text = faults.decode(line, number).strip().removeprefix("\ufeff")
            if text:
                yield number, text


class Utf8Faults:
    """Counts rows that are not UTF-8, and tells a damaged row from another encoding.

    Attributes:
        damaged: How many rows hold bytes that are not UTF-8.
        first: Which row was the first of these, from 1; 0 if there is none.
    """

    def __init__(self, where: str) -> None:
        """Counts from zero.

        Args:
            where: Name of the file, for messages.
        """
        self.damaged = 0
        self.first = 0
        self._where = where
        self._rows = self._last = 0
        self._sound = 0
        self._latin = 0

    def decode(self, raw: bytes, row: int) -> str:
        """Returns a value of a row as text; what is not UTF-8 becomes U+FFFD.

        Args:
            raw: The bytes.
            row: Number of the row, from 1.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self._count(raw, row)
            return raw.decode(errors="replace")
        self.note_sound(text, row)
        return text

    def note_sound(self, text: str, row: int) -> None:
        """Counts a value that was UTF-8.

        Args:
            text: The value as text.
            row: Number of the row, from 1.
        """
        self._rows = max(self._rows, row)
        self._sound += not text.isascii()

    def refuse_other_encoding(self) -> None:
        """Refuses a file that is damaged all over, which means that it is not UTF-8 at all.

        Raises:
            ValueError: If it looks like an encoding of one byte a letter; one line.
        """
        is_another = self._latin > self._sound and (self._latin > 1 or self._rows <= 2)
        if is_another and self._latin == self.damaged:
            raise ValueError(
                f"{self._where}: is not UTF-8 ({self.damaged} rows, the first is row {self.first}) "
                "and looks like Latin-1 or Windows-1252: convert it, as with "
                "iconv -f WINDOWS-1252 -t UTF-8"
            )

    def _count(self, raw: bytes, row: int) -> None:
        if row == self._last:
            return
        self._last = row
        self._rows = max(self._rows, row)
        self.damaged += 1
        self.first = self.first or row
        self._latin += all(byte < 0x80 or byte in _LATIN for byte in raw)


class _Unpacked(io.RawIOBase):
    """A packed file's content, as far as it grows in proportion."""

    def __init__(self, file: IO[bytes], packed_bytes: int, where: str) -> None:
        self._file = file
        self._where = where
        self._most = max(_UNPACKED_BYTES, _UNPACKED_TIMES * packed_bytes)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer will do
        try:
            content = self._file.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(
                f"{self._where}: cannot be unpacked ({error}); pack or fetch it again"
            ) from None

        self._read += len(content)
        if self._read > self._most:
            raise ValueError(
                f"{self._where}: unpacks to more than {self._most} bytes, which is more than "
                f"{_UNPACKED_TIMES} times its size: unpack it yourself if you trust it"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


class _AsUtf8(io.RawIOBase):
    """A file of another of Unicode's encodings, as bytes of UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str, where: str) -> None:
        self._file = file
        self._where = where
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._encoding = encoding
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer will do
        while not self._waiting:
            raw = self._file.read(_CHUNK)
            try:
                text = self._decoder.decode(raw, final=not raw)
            except UnicodeError as error:
                raise ValueError(
                    f"{self._where}: is not the {self._encoding} that its first bytes promise "
                    f"({error}); save it as UTF-8"
                ) from None
            # A lone surrogate has no place in UTF-8.
            self._waiting = text.encode("utf-8", "surrogatepass")
            if not raw:
                break

        content, self._waiting = self._waiting[: len(buffer)], self._waiting[len(buffer) :]
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
