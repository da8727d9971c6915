"""What is a file that is not the text of a trace?"""

from __future__ import annotations

import io
from pathlib import Path

from tracekit.errors import TraceError
from tracekit.wording import listed

EXPORT_HINT = "export one with torch.profiler's prof.export_chrome_trace('trace.json.gz')"

TRACE_NAMES = (".json", ".json.gz")

# How files begin, and what they then are.
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"SQLite format 3\0", "an SQLite database, as Nsight Systems exports it", EXPORT_HINT),
    (b"QDSTRM", "an Nsight Systems recording", EXPORT_HINT),
    (b"NVR\0", "an Nsight Compute report", EXPORT_HINT),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: zstd -d"),
    (b"BZh", "compressed with bzip2", "unpack it first: bunzip2"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it first: unxz"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it first: lz4 -d"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
    (b"version https://git-lfs.github.com/", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"\x89PNG\r\n", "a picture", EXPORT_HINT),
    (b"%PDF-", "a PDF", EXPORT_HINT),
    (b"PAR1", "a Parquet file", EXPORT_HINT),
)
# Files whose beginning nobody documents are told by their name, unless they hold JSON.
SUFFIXES = {
    ".nsys-rep": "an Nsight Systems report",
    ".qdrep": "an Nsight Systems report",
    ".qdstrm": "an Nsight Systems recording",
    ".ncu-rep": "an Nsight Compute report",
    ".pb": "a protobuf",
    ".pftrace": "a Perfetto trace in protobuf",
    ".perfetto-trace": "a Perfetto trace in protobuf",
}
EXPORT_JSON = "tracekit reads the JSON of torch.profiler's prof.export_chrome_trace('trace.json.gz')"


def refuse_other_formats(data: bytes, path: Path) -> None:
    """Raise TraceError that names the format if this is the content of some other kind of file."""
    found = _format(data, path)
    if found is not None:
        what, mend = found
        raise TraceError(f"this is {what}, not a profiler trace in JSON", where=path, mend=mend)


def _format(data: bytes, path: Path) -> tuple[str, str] | None:
    """What the file is and what to do; None if it may be JSON."""
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip(data)
    if data[257:262] == b"ustar":
        return _tar(data)
    for beginning, what, mend in BEGINNINGS:
        if data.startswith(beginning):
            return what, mend
    first = data[:4096].lstrip()[:16].lower()
    if first.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg")):
        return "a web page (HTML)", "download the file itself, not the page that shows it"
    if _is_pickle(data):
        return "a pickle, as torch.save or a memory snapshot writes it", EXPORT_HINT
    if _is_binary(data) and _is_protobuf(data):
        return _protobuf(data), EXPORT_JSON
    if path.suffix in SUFFIXES and first[:1] not in (b"{", b"["):
        return SUFFIXES[path.suffix], EXPORT_JSON
    return None


def _zip(data: bytes) -> tuple[str, str]:
    import zipfile  # here, because a trace needs neither this nor tarfile, and both take time to import

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged ZIP archive", "copy the file again, whole, and unpack it"
    if any(name.endswith("data.pkl") for name in names):
        return "a ZIP archive of torch.save (.pt)", EXPORT_HINT
    return "a ZIP archive", _unpack(names)


def _tar(data: bytes) -> tuple[str, str]:
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            names = [member.name for member in archive if member.isfile()]
    except (tarfile.TarError, OSError, ValueError, EOFError):
        return "a damaged tar archive", "copy the file again, whole, and unpack it"
    return "a tar archive", _unpack(names)


def _unpack(names: list[str]) -> str:
    """What to do with an archive of these files."""
    inside = [name for name in names if name.endswith(TRACE_NAMES)]
    if not inside:
        return f"unpack it; no file in it ends in {' or '.join(TRACE_NAMES)}"
    return f"unpack it and analyse what is inside: {listed(inside)}"


def _is_pickle(data: bytes) -> bool:
    """Whether this begins as a pickle of protocol 2 to 5 and ends as one."""
    return data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5") and data[2:3] in b"}]()\x8acX\x95"


def _is_binary(data: bytes) -> bool:
    """Whether there are bytes near the beginning that stand in no text."""
    return any(byte < 9 or 13 < byte < 27 for byte in data[:512])


def _is_protobuf(data: bytes) -> bool:
    """Whether this is a row of length-delimited fields with the number 1, as Perfetto traces and XPlane files are."""
    at, packets = 0, 0
    while at < len(data) and packets < 4:
        if data[at] != 0x0A:
            return False
        length, at = _varint(data, at + 1)
        at += length
        # The first byte of a packet is the tag of a field: 1 to 4095, of a wire type that exists.
        if length < 0 or (packets == 0 and not _is_tag(data[at - length : at - length + 1])):
            return False
        packets += 1
    return packets > 1 or (packets == 1 and at == len(data))


def _is_tag(byte: bytes) -> bool:
    return bool(byte) and byte[0] & 7 in (0, 1, 2, 5) and byte[0] >> 3 > 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that stands here and where it ends; -1 if there is none."""
    value = 0
    for place, byte in enumerate(data[at : at + 9]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    return -1, at


def _protobuf(data: bytes) -> str:
    if b"/host:" in data[:4096] or b"/device:" in data[:4096]:
        return "an XPlane protobuf of JAX or TensorFlow"
    return "a Perfetto trace in protobuf"
