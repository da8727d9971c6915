"""Files that are no text of a trace are named for what they are."""

from __future__ import annotations

import gzip
import io
import pickle
import sqlite3
import tarfile
import zipfile

import pytest
from synthetic import TraceBuilder, load_bytes

from tracekit.analyze.trace.formats import EXPORT_HINT, EXPORT_JSON
from tracekit.errors import TraceError


def trace() -> bytes:
    builder = TraceBuilder()
    builder.kernel(0, 5)
    return builder.json()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_json", ".json").replace("_pkl", ".pkl"), content)
    return out.getvalue()


def tarred(mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("run/a.pt.trace.json")
        info.size = len(trace())
        archive.addfile(info, io.BytesIO(trace()))
    return out.getvalue()


def database() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table a (b)")
    return connection.serialize() if hasattr(connection, "serialize") else b"SQLite format 3\0" + b"\0" * 84


def packet(content: bytes) -> bytes:
    return b"\x0a" + bytes([len(content)]) + content


PERFETTO = packet(b"\x40\x80\x01\x50\x02") + packet(b"\x32\x04\x0a\x02\x08\x06") + packet(b"\x18\x07")
XPLANE = packet(b"\x08\x01\x12\x09/host:CPU") + packet(b"\x08\x02\x12\x0d/device:GPU:0")


def refused(data: bytes, name: str = "a.json") -> str:
    with pytest.raises(TraceError) as caught:
        load_bytes(data, name)
    line = str(caught.value)
    assert "\n" not in line
    assert name in line
    return line


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(a_json=trace()), ("ZIP", "unpack it", "a.json")),
        (zipped(readme=b"x"), ("ZIP", "no file in it ends in .json")),
        (zipped(a_json=trace())[:60], ("damaged ZIP",)),
        (zipped(model__data_pkl=b"x"), ("torch.save",)),
        (tarred(), ("tar", "run/a.pt.trace.json")),
        (tarred("w:gz"), ("tar", "run/a.pt.trace.json")),
        (gzip.compress(zipped(a_json=trace())), ("ZIP",)),
        (database(), ("SQLite", "Nsight")),
        (pickle.dumps({"a": 1}), ("pickle",)),
        (pickle.dumps([1], protocol=2), ("pickle",)),
        (PERFETTO, ("Perfetto", "protobuf")),
        (gzip.compress(PERFETTO), ("Perfetto",)),
        (XPLANE, ("XPlane", "JAX")),
        (b"<!DOCTYPE html><html></html>", ("HTML",)),
        (b"\n <html><body>Sign in</body></html>", ("HTML",)),
        (b"BZh91AY&SY", ("bzip2",)),
        (b"\x28\xb5\x2f\xfd rest", ("zstd", "unpack")),
        (b"\xfd7zXZ\0 rest", ("xz",)),
        (trace().decode().encode("utf-16"), ("UTF-16", "UTF-8")),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ("Git LFS", "git lfs pull")),
        (b"NVR\0\1\2", ("Nsight Compute",)),
        (b"\x89PNG\r\n\x1a\n", ("picture",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",  # the bytes of an archive differ from run to run
)
def test_formats_are_named(data, words):
    line = refused(data)

    assert all(word in line for word in words), line


ARCHIVE = "copy the file again, whole, and unpack it"


@pytest.mark.parametrize(
    ("data", "what", "mend"),
    [
        (zipped(a_json=trace()), "a ZIP archive", "unpack it and analyse what is inside: a.json"),
        (zipped(readme=b"x"), "a ZIP archive", "unpack it; no file in it ends in .json or .json.gz"),
        (zipped(a_json=trace())[:60], "a damaged ZIP archive", ARCHIVE),
        (zipped(model__data_pkl=b"x"), "a ZIP archive of torch.save (.pt)", EXPORT_HINT),
        (tarred(), "a tar archive", "unpack it and analyse what is inside: run/a.pt.trace.json"),
        (tarred()[:400], "a damaged tar archive", ARCHIVE),
        (pickle.dumps({"a": 1}), "a pickle, as torch.save or a memory snapshot writes it", EXPORT_HINT),
        (PERFETTO, "a Perfetto trace in protobuf", EXPORT_JSON),
        (XPLANE, "an XPlane protobuf of JAX or TensorFlow", EXPORT_JSON),
        (packet(b"\x08\x01\x12\x09/host:CPU"), "an XPlane protobuf of JAX or TensorFlow", EXPORT_JSON),
        (packet(b"\x08\x02\x12\x0d/device:GPU:0"), "an XPlane protobuf of JAX or TensorFlow", EXPORT_JSON),
        (b"<html>", "a web page (HTML)", "download the file itself, not the page that shows it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_file_is_and_what_to_do_about_it(data, what, mend):
    with pytest.raises(TraceError) as caught:
        load_bytes(data)

    assert (caught.value.what, caught.value.mend) == (f"this is {what}, not a profiler trace in JSON", mend)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.nsys-rep", "Nsight Systems"),
        ("a.qdrep", "Nsight Systems"),
        ("a.ncu-rep", "Nsight Compute"),
        ("a.pftrace", "Perfetto"),
    ],
)
def test_formats_that_only_their_name_tells(name, word):
    assert word in refused(b"\x01\x02 whatever", name)


@pytest.mark.parametrize("beginning", ["<!doctype html>", "<HTML>", "<?xml version='1.0'?>", "<Head>", "<svg>"])
def test_web_pages_are_told_by_their_first_tag(beginning):
    assert "a web page (HTML)" in refused(f"\n  {beginning}".encode())
    assert "a web page (HTML)" not in refused(f"x{beginning}".encode())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("operation", [b"}", b"]", b"(", b")", b"\x8a", b"c", b"X", b"\x95"])
def test_pickles_are_told_by_their_protocol_and_first_operation(protocol, operation):
    assert "a pickle" in refused(b"\x80" + bytes([protocol]) + operation + b".")
    assert "a pickle" not in refused(b"\x80" + bytes([protocol + 4]) + operation + b".")
    assert "a pickle" not in refused(b"\x80" + bytes([protocol]) + b"Z.")


def test_an_archive_may_be_empty():
    assert "a ZIP archive" in refused(zipped())


# --- A row of length-delimited fields ----------------------------------------------------------------------------------

PACKET = packet(b"\x08\x01")


def is_protobuf(data: bytes) -> bool:
    return "protobuf" in refused(data)


@pytest.mark.parametrize("tag", [0x08, 0x09, 0x0A, 0x0D, 0xF8])
def test_a_packet_begins_with_the_tag_of_a_field(tag):
    assert is_protobuf(packet(bytes([tag, 1])))
    assert is_protobuf(packet(bytes([tag, 1])) * 2)


@pytest.mark.parametrize("tag", [0x00, 0x02, 0x05, 0x07, 0x0B, 0x0C, 0x0E, 0x0F])
def test_a_first_byte_that_is_no_tag_begins_no_packet(tag):
    assert not is_protobuf(packet(bytes([tag, 1])) * 2)


@pytest.mark.parametrize("length", [127, 128, 200, 300])
def test_lengths_may_take_several_bytes(length):
    large = (
        b"\x0a"
        + (bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128]))
        + b"\x08".ljust(length, b"\1")
    )

    assert is_protobuf(large)
    assert is_protobuf(large * 2)
    assert not is_protobuf(large[:-1])


@pytest.mark.parametrize(
    ("byte", "binary"), [(0, True), (8, True), (9, False), (13, False), (14, True), (26, True), (27, False)]
)
def test_bytes_that_stand_in_no_text_make_a_file_binary(byte, binary):
    assert is_protobuf(packet(b"H" + bytes([byte]) * 31) * 2) is binary


def test_a_few_packets_are_enough():
    assert is_protobuf(PACKET * 4 + b"\xff")
    assert is_protobuf(PACKET + b"\x0a\x00")  # the second one is empty
    assert is_protobuf(PACKET + packet(b"\x0b\x01"))  # only the first is looked into


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x02 whatever",
        b"\x0a\x00",
        PACKET + b"\x0b",
        PACKET + b"\x0a\xff",
        PACKET + b"\x0a" + b"\xff" * 12,
        PACKET + b"\x0a" + b"\x80" * 9 + b"\x01",
        PACKET * 2 + b"?",
    ],
)
def test_other_binary_data_is_no_protobuf(data):
    assert not is_protobuf(data)


@pytest.mark.parametrize("name", ["a.nsys-rep", "a.zip", "a.pftrace", "a.pt", "a.tar"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_trace_is_a_trace_under_any_name(name, bare):
    builder = TraceBuilder()
    builder.kernel(0, 5)

    assert len(load_bytes(b"\n" + builder.json(bare=bare), name)) == 1


@pytest.mark.parametrize("before", [b"\n", b"\n\n\n", b"\xef\xbb\xbf", b"\r\n\t "])
def test_space_before_a_trace_is_no_format(before):
    assert len(load_bytes(before + trace())) == 1


@pytest.mark.parametrize("space", [b" ", b"\t", b"\r"])
def test_text_whose_lines_are_as_long_as_their_first_letters_is_no_protobuf(space):
    lines = b"\n{" + b'"traceEvents": ['.ljust(123, space) + (b"\n" + b" " * 33) * 3

    assert len(load_bytes(lines + trace().partition(b"[")[2])) == 1


@pytest.mark.parametrize("data", [b"hello", b"\x80hello", b"\x0a\x05hell", b"PK but no archive", b"<3"])
def test_anything_else_is_no_json(data):
    assert "not JSON at byte" in refused(data)
