"""A form's deciding fields: read alike however it is cut, or refused."""

import email.parser
import email.policy
import time
import tracemalloc
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from proxy.core.errors import DuplicateParameter, GatewayError, InvalidForm, InvalidParameter, RequestTooLarge
from proxy.dialects.form import PARTS_MAX, VALUE_BYTES_MAX, Edit, FormReader, boundary_of, is_form, spliced
from tests.forms import form

NOISE = bytes(range(256)) * 3 + b"\r\n--\r\n--y\r\n--\n-- x\r\n\r\n"
ORDINARY = form([(b"prompt", b"a\r\ncat"), (b"file", b"a.wav", NOISE), (b"model", b"m-1"), (b"n", b"2")])


def read(body: bytes, cuts: tuple[int, ...] = (), boundary: bytes = b"x") -> FormReader:
    reader = FormReader(boundary)
    ends = [*cuts, len(body)]
    for start, end in zip([0, *cuts], ends, strict=True):
        reader.feed(body[start:end])
    reader.close()
    return reader


def values(reader: FormReader) -> dict[str, str]:
    return {name: field.value for name, field in reader.fields.items()}


def head(text: bytes, value: bytes = b"m") -> bytes:
    """A form of one part with these headers."""
    return b"--x\r\n" + text + b"\r\n\r\n" + value + b"\r\n--x--\r\n"


def disposed(rest: bytes, more: bytes = b"") -> bytes:
    return head(b"Content-Disposition: form-data" + rest + more)


# ── what is read ─────────────────────────────────────────────────────────────────────────


def test_a_form_cut_at_every_byte_reads_alike():
    for cut in range(len(ORDINARY) + 1):
        assert values(read(ORDINARY, (cut,))) == {"model": "m-1", "n": "2"}
    assert values(read(ORDINARY, tuple(range(1, len(ORDINARY))))) == {"model": "m-1", "n": "2"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(disposed(b'; name="model"'), id="as the SDKs write it"),
        pytest.param(disposed(b"; name=model"), id="unquoted, as .NET does"),
        pytest.param(
            disposed(b'; name="model"', b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 1"),
            id="with a type and a length, as Spring does",
        ),
        pytest.param(
            disposed(b'; name="model"', b"\r\ncontent-transfer-encoding: 8BIT\r\ncontent-type: text/plain"),
            id="with a plain coding, as Apache's client does",
        ),
        pytest.param(disposed(b'; name="model"', b"\r\nContent-Type: multipart/form-data"), id="as Retrofit does"),
        pytest.param(disposed(b' ;\tname = "model" ;'), id="spaces"),
        pytest.param(head(b"x-more: 1\r\nCONTENT-DISPOSITION:Form-Data; NAME=model"), id="upper case"),
        pytest.param(disposed(b'; name="model"').removesuffix(b"\r\n"), id="no line end behind the last boundary"),
    ],
)
def test_the_ways_in_which_clients_write_a_field(body):
    assert values(read(body)) == {"model": "m"}


@pytest.mark.parametrize(
    "disposition",
    [
        b'; name="file"; filename="model"',
        b'; name="file"; filename="; name=model"',
        b"; name=\"file\"; filename*=utf-8''%e2%82%ac.wav",
        b'; name="file"; filename="\xc3\xbc \\"q\\".wav"',
        b'; name="file"; filename="C:\\a.wav"',
        b'; name="image[]"; filename="a.png"',
        b'; name="models"',
    ],
)
def test_what_is_no_deciding_field(disposition):
    assert values(read(disposed(disposition))) == {}


def test_values_are_kept_as_they_are():
    body = form([(b"model", "é\r\n\r\n--\r\nb".encode()), (b"user", b""), (b"file", b"f", b"")])
    assert values(read(body)) == {"model": "é\r\n\r\n--\r\nb", "user": ""}


def test_what_only_tells_is_noted():
    body = form([(b"chunking_strategy[type]", b"server_vad"), (b"images[0][FILE_ID]", b"file-1"), (b"voice[id]", b"v")])
    assert values(read(body)) == {"chunking_strategy": "", "images[0][file_id]": "", "voice[id]": ""}
    assert values(read(form([(b"%66ile_id", b"file-1")]))) == {"file_id": ""}  # as those read it who unescape names


@pytest.mark.parametrize("lookalike", [b"--x", b"--x--", b"a--x\r\n", b"\r\n--y", b"\r\n-x", b"\r\n\r\n- -x", b"\n -x"])
def test_what_looks_a_little_like_a_boundary_is_data(lookalike):
    body = form([(b"file", b"f", b"a" + lookalike + b" a"), (b"model", b"m")])
    for cut in range(len(body)):
        assert values(read(body, (cut,))) == {"model": "m"}


# ── what is refused ──────────────────────────────────────────────────────────────────────

PART = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
REFUSED = {
    "empty": (b"", InvalidForm),
    "no form": (b"x" * 100, InvalidForm),
    "another boundary": (form([(b"model", b"m")], b"y"), InvalidForm),
    "a preamble": (b"\r\n" + form([(b"model", b"m")]), InvalidForm),
    "an epilogue": (form([(b"model", b"m")]) + b"--x\r\n" + PART, InvalidForm),
    "no CRLF behind a boundary": (b"--x\n" + PART + b"\r\n--x--\r\n", InvalidForm),
    "spaces behind a boundary": (b"--x \r\n" + PART + b"\r\n--x--\r\n", InvalidForm),
    "a bare line feed before a boundary": (b"--x\r\n" + PART + b"\n--x\r\n" + PART + b"\r\n--x--", InvalidForm),
    "a bare return before a boundary": (b"--x\r\n" + PART + b"\r--x\r\n" + PART + b"\r\n--x--", InvalidForm),
    "a longer boundary": (b"--x\r\n" + PART + b"\r\n--xy\r\n" + PART + b"\r\n--x--", InvalidForm),
    "two letters behind a boundary": (
        b"--x\r\n" + PART + b"\r\n--xab" + PART.replace(b"mod", b"m") + b"\r\n--x--",
        InvalidForm,
    ),
    "a boundary where the data begins": (form([(b"file", b"f", b"--x\r\n" + PART)]), InvalidForm),
    "a head with bare line feeds": (head(b"A: b\n" + PART.partition(b"\r\n")[0]), InvalidForm),
    "a folded head": (head(b'Content-Disposition: form-data;\r\n name="model"'), InvalidForm),
    "a boundary in a head": (head(b"--x: y\r\n" + PART.partition(b"\r\n")[0]), InvalidForm),
    "a head with a space before the colon": (head(b'Content-Disposition : form-data; name="model"'), InvalidForm),
    "a NUL": (disposed(b'; name="mod\x00el"'), InvalidForm),
    "no head": (b"--x\r\n\r\nm\r\n--x--\r\n", InvalidForm),
    "no disposition": (head(b"Content-Type: text/plain"), InvalidForm),
    "another disposition": (head(b'Content-Disposition: attachment; name="model"'), InvalidForm),
    "two dispositions": (
        head(b'Content-Disposition: form-data; name="a"\r\ncontent-disposition: form-data; name="model"'),
        InvalidForm,
    ),
    "no name": (disposed(b'; filename="a"'), InvalidForm),
    "two names": (disposed(b'; name="a"; name="model"'), InvalidForm),
    "a name in another charset": (disposed(b"; name=a; name*=utf-8''model"), InvalidForm),
    "a name that is no token": (disposed("; name=modelé".encode()), InvalidForm),
    "a name that goes on behind its token": (disposed(b"; name=model=a"), InvalidForm),
    "an open quote": (disposed(b'; name="model'), InvalidForm),
    "a name behind a backslash": (disposed(b'; a="\\"; name="model"; b="'), InvalidForm),
    "another name behind a backslash": (disposed(b'; name=file; a="\\"; name=model; b="'), InvalidForm),
    "another name in pieces behind a backslash": (
        disposed(b'; name=file; a="\\"; name*0=model; b="'),
        InvalidForm,
    ),
    "a head within a head": (disposed(b"; name=file", b"\r\nA: b\x0b" + PART.partition(b"\r\n")[0]), InvalidForm),
    "a backslash in a name": (disposed(b'; name="mod\\el"'), InvalidForm),
    "a head too long": (disposed(b'; name="' + b"a" * 9_000 + b'"'), InvalidForm),
    "a length that is wrong": (disposed(b"; name=file", b"\r\nContent-Length: 2"), InvalidForm),
    "a length that is no number": (disposed(b"; name=file", b"\r\nContent-Length: 1x"), InvalidForm),
    "a charset for all": (form([(b"_charset_", b"utf-7"), (b"model", b"m")]), InvalidForm),
    "twice": (form([(b"model", b"m"), (b"model", b"m")]), DuplicateParameter),
    "twice, the first empty": (form([(b"n", b""), (b"n", b"9")]), DuplicateParameter),
    "upper case": (form([(b"Model", b"m")]), DuplicateParameter),
    "a list of one": (form([(b"model[]", b"m")]), DuplicateParameter),
    "a member": (form([(b"model[a]", b"m")]), DuplicateParameter),
    "escaped": (form([(b"mod%65l", b"m")]), DuplicateParameter),
    "a space": (form([(b" model", b"m")]), DuplicateParameter),
    "brackets, as Rack reads them": (form([(b"[model]", b"m")]), DuplicateParameter),
    "a bracket that nobody opened": (form([(b"model]", b"m")]), DuplicateParameter),
    "escaped as in mail": (form([(b"=?utf-8?q?model?=", b"m")]), InvalidForm),
    "as a form within a file": (
        disposed(b"; name=file; filename=a", b"\r\nContent-Type: multipart/form-data; boundary=z"),
        InvalidForm,
    ),
    "as a file": (form([(b"model", b"a.txt", b"m")]), InvalidParameter),
    "as a file with an encoded name": (disposed(b"; name=model; filename*=utf-8''a"), InvalidParameter),
    "in base64": (disposed(b"; name=model", b"\r\nContent-Transfer-Encoding: base64"), InvalidParameter),
    "in UTF-16": (disposed(b"; name=model", b"\r\nContent-Type: text/plain; charset=utf-16"), InvalidParameter),
    "as JSON": (disposed(b"; name=model", b"\r\nContent-Type: application/json"), InvalidParameter),
    "as a form": (disposed(b"; name=model", b"\r\nContent-Type: multipart/mixed; boundary=z"), InvalidParameter),
    "not UTF-8": (form([(b"model", b"\xff")]), InvalidParameter),
    "a value too long": (form([(b"user", b"u" * (VALUE_BYTES_MAX + 1))]), InvalidParameter),
    "too many parts": (form([(b"a", b"")] * (PARTS_MAX + 1)), RequestTooLarge),
}


@pytest.mark.parametrize(("body", "error"), REFUSED.values(), ids=REFUSED)
def test_what_readers_read_differently_is_refused(body, error):
    for cuts in ((), (len(body) // 2,), tuple(range(1, min(len(body), 12_000)))):
        with pytest.raises(error) as caught:
            read(body, cuts)
        assert type(caught.value) is error
        assert len(caught.value.message) < 300


def test_a_form_cut_off_anywhere_is_no_form():
    for length in range(len(ORDINARY) - 2):  # the last CRLF may be missing
        with pytest.raises(InvalidForm):
            read(ORDINARY[:length])


def test_the_longest_value_and_the_most_parts_fit():
    assert values(read(form([(b"user", b"u" * VALUE_BYTES_MAX)]))) == {"user": "u" * VALUE_BYTES_MAX}
    read(form([(b"a", b"")] * PARTS_MAX))


@pytest.mark.parametrize("late", [b"model", b"n", b"chunking_strategy[type]", b"file_id"])
def test_once_sealed_no_field_may_decide(late):
    reader = FormReader(b"x")
    body = form([(b"file", b"f", b"a" * 100), (b"language", b"de"), (late, b"1")])
    reader.feed(body[:90])
    reader.seal()
    with pytest.raises(InvalidParameter, match="before the files"):
        reader.feed(body[90:])
    sealed = FormReader(b"x")
    sealed.feed(body[:90])
    sealed.seal()
    sealed.feed(form([(b"file", b"f", b"a" * 100), (b"language", b"de")])[90:])
    sealed.close()


@pytest.mark.parametrize("name", [b"model", b"n"])
def test_a_value_that_ends_behind_the_seal_decides_no_more_than_one_that_begins_there(name):
    body = form([(b"file", b"f", b"a" * 100), (name, b"10")])
    for cut in (body.index(b'"%b"' % name) + len(name) + 6, body.index(b"10") + 1, body.index(b"10") + 5):
        reader = FormReader(b"x")
        reader.feed(body[:cut])
        reader.seal()
        assert reader.fields == {}
        with pytest.raises(InvalidParameter, match="before the files"):
            reader.feed(body[cut:])
        assert reader.fields == {}


# ── boundaries ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; charset=utf-8; BOUNDARY="a b\'()+_,-./:=?"', b"a b'()+_,-./:=?"),
        (b"multipart/form-data;boundary=----formdata-undici-012;", b"----formdata-undici-012"),
        (
            b"multipart/form-data; boundary=----WebKitFormBoundaryYp0ZBDEHwALiqVW5",
            b"----WebKitFormBoundaryYp0ZBDEHwALiqVW5",
        ),
        (b"multipart/form-data; boundary=" + b"a" * 70, b"a" * 70),
    ],
)
def test_a_boundary(content_type, boundary):
    assert is_form(content_type)
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"; boundary=",
        b'; boundary=""',
        b"; boundary=a; boundary=b",
        b"; boundary*=utf-8''a",
        b"; boundary*0=a; boundary*1=b",
        b'; boundary="a"b',
        b"; boundary=" + b"a" * 71,
        b'; boundary="a "',
        b'; boundary="a\\b"',
        b"; boundary=\xe9",
        b"; xboundary=b; boundary=a",
        b'; x="; boundary=b"; boundary=a',
        b"; boundary=a,b",
        b", boundary=a",
    ],
)
def test_no_boundary(rest):
    with pytest.raises(InvalidForm, match="boundary"):
        boundary_of(b"multipart/form-data" + rest)


@pytest.mark.parametrize(
    "charset", [b"charset=utf-7", b"charset*=utf-8''utf-7", b"charset*0=utf-7", b'CHARSET="utf-16"']
)
def test_a_charset_in_which_names_may_be_others(charset):
    for rest in (b"; boundary=a; " + charset, b"; " + charset + b"; boundary=a"):
        with pytest.raises(InvalidForm, match="charset"):
            boundary_of(b"multipart/form-data" + rest)


# ── the splice ───────────────────────────────────────────────────────────────────────────


def test_the_models_value_alone_changes_wherever_the_form_is_cut():
    expected = ORDINARY.replace(b"m-1", b"another name")
    edits = read(ORDINARY).edits("model", "another name")
    for cut in range(len(ORDINARY) + 1):
        assert b"".join(spliced([ORDINARY[:cut], ORDINARY[cut:]], edits)) == expected
    single = [ORDINARY[i : i + 1] for i in range(len(ORDINARY))]
    assert b"".join(spliced(single, edits)) == expected


def test_a_parts_own_length_changes_with_it():
    sent = disposed(b"; name=model", b"\r\nContent-Length: 1\r\nA: 1")
    edits = read(sent).edits("model", "é" * 5)
    got = b"".join(spliced([sent], edits))
    assert got == sent.replace(b"Length: 1", b"Length: 10").replace(b"\r\n\r\nm", b"\r\n\r\n" + "é".encode() * 5)
    assert read(got).fields["model"].value == "é" * 5


def test_without_an_edit_the_pieces_pass_as_they_are():
    pieces = [b"one", b"two"]
    assert all(got is sent for got, sent in zip(spliced(pieces, []), pieces, strict=True))
    assert list(spliced([b"abc"], [Edit(0, 3, b"")])) == []


# ── any form ─────────────────────────────────────────────────────────────────────────────

NAMES = some.sampled_from([b"model", b"n", b"user", b"file", b"image[]", b"prompt", b"Model", b"model[]", b"model\\"])
DATA = some.lists(
    some.sampled_from(
        [b"\r", b"\n", b"\r\n", b"--", b"--bb", b"b", b"\r\n--bb", b"\r\n--bb\r\n", b": ", b"\xc3\xa9", b"\x00"]
    )
    | some.binary(max_size=6),
    max_size=8,
).map(b"".join)
HEADS = some.sampled_from(
    [b"", b'; filename="a"', b"; filename*=utf-8''a", b"\r\nContent-Type: text/plain", b"\r\nX: --bb", b"\n"]
)


@some.composite
def forms(draw):
    pieces = []
    for _ in range(draw(some.integers(0, 4))):
        pieces.append(b'--bb\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n' % (draw(NAMES), draw(HEADS)))
        pieces.append(draw(DATA) + draw(some.sampled_from([b"\r\n"] * 9 + [b"\n"])))
    return b"".join(pieces) + draw(some.sampled_from([b"--bb--\r\n"] * 9 + [b"--bb", b""]))


def outcome(body: bytes, cuts: tuple[int, ...]) -> object:
    try:
        return read(body, cuts, b"bb").fields
    except GatewayError as error:
        return type(error)


def by_the_standard_library(body: bytes) -> list[tuple[str | None, bytes]]:
    """Python's own reader of mail, which knows nothing of ours: each part's name and content."""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(b"Content-Type: multipart/form-data; boundary=bb\r\n\r\n" + body)
    assert isinstance(message, EmailMessage)
    parts = message.get_payload() if message.is_multipart() else []
    assert isinstance(parts, list)
    found = []
    for part in parts:
        assert isinstance(part, EmailMessage)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        assert name is None or isinstance(name, str)
        found.append((name, content))
    return found


@settings(max_examples=400, deadline=None)
@given(body=forms(), data=some.data())
def test_any_form_reads_alike_however_it_is_cut_and_as_another_reader_does(body, data):
    cuts = tuple(sorted(data.draw(some.sets(some.integers(0, len(body)), max_size=6))))
    whole = outcome(body, ())
    assert outcome(body, cuts) == whole
    if isinstance(whole, dict):
        theirs = [(name, content) for name, content in by_the_standard_library(body) if name in ("model", "n", "user")]
        assert [(name, field.value.encode()) for name, field in whole.items()] == theirs
        assert all(body[field.start : field.end] == field.value.encode() for field in whole.values())


def test_a_file_is_searched_and_not_kept():
    reader = FormReader(b"x")
    reader.feed(form([(b"model", b"m"), (b"file", b"f", b"")]).partition(b"\r\n\r\n\r\n")[0] + b"\r\n\r\n")
    piece = b"\r\n--" * 16_384
    tracemalloc.start()
    for _ in range(500):
        reader.feed(piece)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.feed(b"\r\n--x--\r\n")
    reader.close()
    assert peak_bytes < 4 * len(piece)


@pytest.mark.parametrize("filling", [b"\r", b"\r\n--", b"-"])
def test_many_small_parts_before_a_large_file_cost_no_more_than_their_bytes(filling):
    """All in one piece: to search or copy the rest of it for each part would hold up everybody for seconds."""
    small, _, end = form([*[(b"a", b"")] * (PARTS_MAX - 1), (b"file", b"f", b"|")]).partition(b"|")
    body = small + filling * (1 << 19) + end
    began_s = time.process_time()
    read(body)
    assert time.process_time() - began_s < 0.3
