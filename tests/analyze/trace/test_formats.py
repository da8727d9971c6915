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


@pytest.mark.parametrize("name", ["a.nsys-rep", "a.zip", "a.pftrace", "a.pt", "a.tar"])
def test_a_trace_is_a_trace_under_any_name(name):
    assert len(load_bytes(trace(), name)) == 1


@pytest.mark.parametrize("before", [b"\n", b"\n\n\n", b"\xef\xbb\xbf", b"\r\n\t "])
def test_space_before_a_trace_is_no_format(before):
    assert len(load_bytes(before + trace())) == 1


def test_text_whose_lines_are_as_long_as_their_first_letters_is_no_protobuf():
    lines = b"\n{" + b'"traceEvents": ['.ljust(123) + (b"\n" + b" " * 33) * 3

    assert len(load_bytes(lines + trace().partition(b"[")[2])) == 1


@pytest.mark.parametrize("data", [b"hello", b"\x80hello", b"\x0a\x05hell", b"PK but no archive", b"<3"])
def test_anything_else_is_no_json(data):
    assert "not JSON at byte" in refused(data)
