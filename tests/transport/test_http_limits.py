"""What a peer may not do over HTTP: come without a token, take for ever, or send more than is right."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme
from http_parties import prepare, running, stored, verify

from pyattr.protocol.signing import sealed_size
from pyattr.transport.answers import JSON_CAP, REQUEST_CAP, SEALED
from pyattr.transport.client import DeadlineError, ProverClient, RefusedError
from pyattr.transport.listener import Address, is_loopback
from pyattr.transport.openapi import DESCRIPTION
from pyattr.transport.server import Limits
from pyattr.verification.verdict import Outcome

TOKEN = "a-token-of-many-letters"
QUICK = Limits(header_seconds=0.3, body_seconds=0.3, request_seconds=5.0, connections=20)
HEAD = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: {SEALED}\r\n".encode()
PLACE = "0" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server") / "host", limits=QUICK) as (url, host):
        yield url, host


def connected(url):
    port = httpx.URL(url).port
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    return closing(connection)


def read_all(connection):
    """All that comes until the server hangs up, which it must."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:  # it had not read all that was sent
        pass
    return answer


def test_without_the_token_nothing_is_said(tmp_path):
    with running(tmp_path / "host", token=TOKEN) as (url, _):
        for path, operations in DESCRIPTION["paths"].items():
            for method in operations.keys() & {"get", "post"}:
                for given in (None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xff"):
                    headers = {} if given is None else {"authorization": given.encode("latin1")}
                    target = url + path.replace("{place}", PLACE)
                    answer = httpx.request(method, target, headers=headers)
                    assert answer.status_code == (
                        200 if path in ("/healthz", "/openapi.json") else 401
                    )
        both = [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")]
        assert httpx.get(f"{url}/v1/prover", headers=both).status_code == 401
        with pytest.raises(RefusedError, match="401"), ProverClient(url) as client:
            client.offer()
        assert verify(tmp_path, url, client={"token": TOKEN}).outcome is Outcome.ACCEPT


def test_a_token_is_not_sent_in_clear_to_another_machine():
    with pytest.raises(ValueError, match="expected https"):
        ProverClient("http://prover.example", token=TOKEN)
    for url in ("https://prover.example", "http://127.0.0.1:1", "http://[::1]:1"):
        ProverClient(url, token=TOKEN)


@pytest.mark.parametrize(
    "url", ["ftp://x", "prover", "http://", "http://x/path", "http://x:port", ""]
)
def test_an_url_is_one_of_a_server(url):
    with pytest.raises(ValueError, match="url: expected"):
        ProverClient(url)


def test_over_tls_a_server_must_be_vouched_for(tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    for name, ca in (("ca.pem", authority), ("stranger.pem", stranger)):
        ca.cert_pem.write_to_path(tmp_path / name)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    address = Address("127.0.0.1", 0, tmp_path / "tls.pem", tmp_path / "tls.key")
    place, messages = prepare(tmp_path, 1)
    with running(tmp_path / "host", address=address, token=TOKEN) as (url, _):
        assert url.startswith("https://")
        for untrusted in (None, tmp_path / "stranger.pem"):
            with pytest.raises(RefusedError, match="trusted"):
                verify(tmp_path, url, client={"token": TOKEN, "ca": untrusted})
        assert verify(tmp_path, url, client={"token": TOKEN, "ca": tmp_path / "ca.pem"})
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(url.replace("https", "http") + "/healthz")
    assert stored(tmp_path / "host" / place) == messages


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(ValueError, match="or neither"):
        Address(certificate=tmp_path)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")],
)
def test_loopback(host, is_own):
    assert is_loopback(host) is is_own


@pytest.mark.parametrize("media", [None, "application/json", "text/plain", SEALED + ";v=1"])
def test_no_web_page_can_send_a_message(server, media):
    headers = {} if media is None else {"content-type": media}
    answer = httpx.post(f"{server[0]}/v1/sessions", content=b"x", headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("length", [REQUEST_CAP + 1, 10**18])
def test_a_length_above_the_cap_is_refused_before_the_body(server, length):
    with connected(server[0]) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % length)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_body_without_end_is_cut_off(server):
    sent = 0
    with connected(server[0]) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):  # reset, or a broken pipe
            while sent < 2**30:
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                sent += 4096
    assert sent < 2**25  # what the buffers of both kernels may hold


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"Content-Length: 100\r\n\r\nabc", b" 408 "),  # the rest never comes
        (HEAD + b"Content-Length: 3\r\n\r\nabcdef", b" 400 "),  # what follows is no request
        (HEAD + b"Content-Length: -1\r\n\r\n", b" 400 "),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b" 400 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b" 400 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", b" 408 "),
        (HEAD + b"X: " + b"y" * 2**15 + b"\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", b" 400 "),
    ],
)
def test_lengths_that_lie_and_requests_that_are_none(server, sent, status):
    with connected(server[0]) as connection:
        connection.sendall(sent)
        assert status in read_all(connection).splitlines()[0]


@pytest.mark.parametrize("drip", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", HEAD])
def test_headers_that_do_not_end_end_the_connection(server, drip):
    started = time.monotonic()
    with connected(server[0]) as connection:
        connection.sendall(drip)
        connection.settimeout(0.05)
        answer = None
        while answer is None:
            assert time.monotonic() < started + 5
            try:
                answer = connection.recv(100)
            except TimeoutError:
                if drip:
                    connection.sendall(b"y")
            except ConnectionResetError:
                answer = b""
    assert answer == b""
    assert time.monotonic() > started + QUICK.header_seconds - 0.05


def test_a_second_request_that_does_not_end_ends_the_connection_too(server):
    with connected(server[0]) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert read_all(connection) == b""


def test_a_body_that_drips_is_given_up(server):
    started = time.monotonic()
    with connected(server[0]) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        with suppress(OSError):
            while time.monotonic() < started + 10:
                connection.sendall(b"x")
                time.sleep(0.02)
    assert time.monotonic() < started + 5


def test_connections_that_say_nothing_do_not_lock_others_out(server):
    url, _ = server
    idle = [connected(url) for _ in range(QUICK.connections + 5)]
    try:
        opened = [connection.__enter__() for connection in idle]
        assert httpx.get(f"{url}/healthz").status_code == 503
        for connection in opened:
            assert read_all(connection) == b""
        assert httpx.get(f"{url}/healthz").status_code == 200
    finally:
        for connection in idle:
            connection.__exit__(None, None, None)


def test_a_download_that_is_not_taken_is_given_up(tmp_path):
    place, messages = prepare(tmp_path, 1)
    limits = Limits(request_seconds=0.5)
    with running(tmp_path / "host", limits=limits) as (url, _):
        verify(tmp_path, url)
        outputs = tmp_path / "host" / place / "4-outputs.dsse"
        outputs.write_bytes(messages[4] + bytes(2**25))  # more than the buffers on the way hold
        with connected(url) as connection:
            connection.sendall(
                f"GET /v1/sessions/{place}/outputs HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            time.sleep(1.0)
            assert len(read_all(connection)) < 2**25


@contextmanager
def answering(answer):
    """A server that is none of ours: `answer` is called with each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            answer(self)
            self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        other.daemon_threads = True
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()
            thread.join()


def send(handler, status=200, headers=(), body=b""):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler):
    send(handler)
    try:
        while True:
            handler.wfile.write(bytes(65536))
    except OSError:
        handler.server.cut_off = True


def drip(handler):
    send(handler, headers=[("Content-Length", "10000")])
    try:
        for _ in range(400):
            handler.wfile.write(b"x")
            time.sleep(0.01)
    except OSError:
        pass


OFFER_OF_NOBODY = b'{"protocol":"pyattr/session/1"}'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (endless, "at most"),
        (lambda h: send(h, headers=[("Content-Length", str(10**15))]), "at most"),
        (
            lambda h: send(h, headers=[("Content-Encoding", "gzip")], body=b"\x1f\x8b"),
            "content-encoding",
        ),
        (lambda h: send(h, 302, [("Location", "http://127.0.0.1:1/")]), "302"),
        (lambda h: send(h, body=OFFER_OF_NOBODY), "expected a Offer"),
        (lambda h: send(h, body=b"[" * JSON_CAP), "expected a Offer"),
        (lambda h: send(h, body=b"\xff\xfe"), "expected a Offer"),
        (lambda h: send(h, 403, body=b'{"error":"\\u001b[2J no"}'), r"403: \?\[2J no"),
        (lambda h: send(h, 404, body=b"<html>"), "404: no reason given"),
    ],
)
def test_a_server_that_is_none_is_found_out(answer, message):
    with (
        answering(answer) as url,
        ProverClient(url, seconds=20.0) as client,
        pytest.raises(RefusedError, match=message),
    ):
        client.offer()


@pytest.mark.parametrize(
    "answer",
    [
        drip,
        lambda handler: time.sleep(0.5),
        lambda handler: send(handler, 503, [("Retry-After", "1000000000")]),
        lambda handler: send(handler, headers=[("Content-Length", "9")], body=b"half"),
        lambda handler: handler.wfile.write(b"HTTP/9 what\r\n\r\n"),
    ],
)
def test_a_server_that_leads_nowhere_is_given_up(answer):
    started = time.monotonic()
    with (
        answering(answer) as url,
        ProverClient(url, seconds=0.5, silence_seconds=0.1) as client,
        pytest.raises(DeadlineError, match="expected"),
    ):
        client.offer()
    assert time.monotonic() < started + 5


def test_a_server_that_comes_back_is_asked_again(tmp_path):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        send(handler, 503 if len(asked) < 3 else 200, body=b"{}")

    with (
        answering(answer) as url,
        ProverClient(url, seconds=20.0) as client,
        pytest.raises(RefusedError),
    ):
        client.offer()
    assert len(asked) == 3


def test_outputs_are_not_read_beyond_what_the_challenge_allows(tmp_path):
    messages = prepare(tmp_path, 1)[1]
    caps, original = [], ProverClient.outputs
    with running(tmp_path / "host") as (url, _), pytest.MonkeyPatch.context() as patch:

        def watched(self, place, most_bytes):
            caps.append(most_bytes)
            outputs = tmp_path / "host" / place / "4-outputs.dsse"
            outputs.write_bytes(outputs.read_bytes() + bytes(most_bytes))
            return original(self, place, most_bytes)

        patch.setattr(ProverClient, "outputs", watched)
        with pytest.raises(RefusedError, match="at most"):
            verify(tmp_path, url)
    assert len(messages[4]) <= caps[0] <= sealed_size(len(messages[4]) + 2**15)
    assert not (tmp_path / "verifier" / "4-outputs.dsse").exists()
