"""What a loop does with its connections as time passes. The loop does not run, and time is a number that we say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monoceros.scoreboard import ACCEPTED, CONNECTIONS, NEVER, clock
from monoceros.worker.base import LAST_CALL, TICK
from monoceros.worker.connection import CONTENT, HEAD, IDLE, LINGERING, UNSET
from monoceros.worker.loop import DRAIN_TICK, LINGER_BYTES, milliseconds
from server import wait_for
from worker.line import GET, Line, post

Dial = Callable[..., Line]

FAR = NEVER // 4  # all limits are over


def dropped(line: Line) -> bool:
    return not line.worker.connections and line.connection.sock.fileno() < 0


def served(line: Line) -> None:
    """One request, and the connection is parked again."""
    assert line.send(GET)
    assert b" 200 OK\r\n" in line.serve()
    line.worker.settle(line.connection)
    assert line.connection.phase is IDLE
    assert line.connection.deadline == UNSET


def stuffed(line: Line) -> None:
    """The client does not take its answer."""
    line.connection.write(b"x" * (32 << 20))
    line.connection.begin_sending()
    assert line.connection.unsent


def shut(line: Line) -> bool:
    """Does the kernel know that the client is gone?"""
    try:
        line.connection.sock.getpeername()
    except OSError:
        return True
    return False


# Coming


def test_a_new_connection_is_counted_and_has_time_for_a_head(dial: Dial) -> None:
    before = clock()
    line = dial(header_timeout=7)
    assert before + 7000 <= line.connection.deadline <= clock() + 7000
    assert line.connection.phase is HEAD
    assert not line.connection.wire.closing
    assert [line.worker.slot[index] for index in (ACCEPTED, CONNECTIONS)] == [1, 1]


def test_without_keepalive_the_first_request_is_the_last(dial: Dial) -> None:
    assert dial(keepalive=0).connection.wire.closing


# Waiting


def test_the_deadline_of_a_parked_connection_is_set_by_the_next_look(dial: Dial) -> None:
    line = dial(keepalive=5)
    served(line)
    line.worker.look_around(1000)
    assert line.connection.deadline == 6000
    assert line.connection.phase is IDLE
    line.worker.look_around(5999)
    assert line.worker.connections
    line.worker.look_around(6000)
    assert dropped(line)
    assert line.worker.slot[CONNECTIONS] == 0
    assert line.got() == b"", "an idle client is told nothing"


def test_a_request_that_has_begun_has_the_time_of_a_head(dial: Dial) -> None:
    line = dial(keepalive=5, header_timeout=9)
    assert line.send(GET + GET[:5])
    line.serve()
    line.worker.settle(line.connection)
    line.worker.look_around(1000)
    assert line.connection.phase is HEAD
    assert line.connection.deadline == 10_000


def test_0_seconds_are_no_limit(dial: Dial) -> None:
    assert milliseconds(0) > 10**15
    assert milliseconds(0.5) == 500
    line = dial(header_timeout=0)
    line.worker.look_around(clock() + 10**12)
    assert line.worker.connections


@pytest.mark.parametrize(
    ("sent", "phase", "words"),
    [(GET[:10], HEAD, "the head of the request"), (post(b"hell", length=5), CONTENT, "the content of the request")],
)
def test_a_client_that_is_late_with_what_it_has_begun_is_told_so(
    dial: Dial, caplog: pytest.LogCaptureFixture, sent: bytes, phase: str, words: str
) -> None:
    line = dial()
    assert not line.send(sent)
    line.connection.phase = phase
    line.worker.look_around(FAR)
    assert line.got().startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert caplog.messages == [f"Invalid request from ip=127.0.0.1: {words} took too long"]
    assert line.connection.phase is LINGERING


def test_a_client_whose_request_waits_to_be_read_is_not_late(dial: Dial) -> None:
    line = dial()
    served(line)
    line.connection.deadline = 1
    line.client.sendall(GET)
    wait_for(lambda: not line.connection.silent)
    line.worker.look_around(2)
    assert line.worker.connections


def test_a_request_that_runs_is_not_the_clients_time(dial: Dial) -> None:
    line = dial()
    line.connection.running = True
    line.worker.look_around(FAR)
    assert line.worker.connections


def test_a_client_that_takes_its_answer_slowly_gets_more_time(dial: Dial) -> None:
    line = dial(body_timeout=30)
    stuffed(line)
    wait_for(lambda: not line.connection.moving)
    line.client.recv(1 << 22)
    wait_for(lambda: line.connection._outstanding < line.connection._marked)
    line.connection.deadline = 1
    before = clock()
    line.worker.look_around(2)
    assert line.connection.deadline >= before + 30_000


def test_a_client_that_takes_nothing_is_given_up(dial: Dial) -> None:
    line = dial()
    stuffed(line)
    wait_for(lambda: not line.connection.moving)
    line.worker.look_around(FAR)
    assert dropped(line)


# Closing


def test_closing_at_once(dial: Dial) -> None:
    line = dial()
    line.worker.close(line.connection)
    assert dropped(line)
    assert line.client.recv(1) == b""


def test_a_client_that_may_still_be_sending_is_let_finish(dial: Dial) -> None:
    line = dial()
    line.connection.wary = True
    line.worker.close(line.connection)
    assert line.connection.phase is LINGERING
    assert line.client.recv(1) == b"", "we have said all"
    line.client.sendall(b"x" * 1000)
    wait_for(lambda: not line.connection.silent)
    line.worker.listen_on(line.connection)
    assert line.connection.heard == 1000
    line.worker.listen_on(line.connection)
    assert line.worker.connections, "nothing has come, which is no end"
    line.client.close()
    wait_for(lambda: line.worker.listen_on(line.connection) or not line.worker.connections)
    assert dropped(line)


def test_a_client_that_goes_on_sending_is_not_listened_to_for_ever(dial: Dial) -> None:
    line = dial()
    line.connection.wary = True
    line.worker.close(line.connection)
    line.connection.heard = LINGER_BYTES
    line.client.sendall(b"x")
    wait_for(lambda: line.worker.listen_on(line.connection) or not line.worker.connections)
    assert dropped(line)


def test_listening_has_an_end_in_time(dial: Dial) -> None:
    line = dial()
    line.connection.wary = True
    line.worker.close(line.connection)
    line.worker.look_around(line.connection.deadline - 1)
    assert line.worker.connections
    line.worker.look_around(line.connection.deadline)
    assert dropped(line)


def test_where_we_would_have_no_more_requests_one_may_be_on_its_way(dial: Dial) -> None:
    line = dial()
    line.connection.wire.closing = True
    line.client.sendall(GET)
    wait_for(lambda: not line.connection.silent)
    line.worker.close(line.connection)
    assert line.connection.phase is LINGERING


def test_whoever_leaves_quickly_does_not_listen(dial: Dial) -> None:
    line = dial()
    line.connection.wary = True
    line.worker.quick = True
    line.worker.close(line.connection)
    assert dropped(line)


def test_a_client_that_is_gone_is_not_listened_to(dial: Dial) -> None:
    line = dial()
    line.connection.wary = True
    line.reset()
    wait_for(lambda: shut(line))
    line.worker.close(line.connection)
    assert dropped(line)


def test_dropping_spares_whoever_has_the_descriptor_now(dial: Dial) -> None:
    """An application may have closed the socket itself, and the next connection have its number."""
    line, other = dial(), dial()
    worker = line.worker
    worker.connections[line.connection.fd] = other.connection
    worker.drop(line.connection)
    assert list(worker.connections.values()) == [other.connection]


# Draining


def drain(line: Line, *, quick: bool = False) -> None:
    """As a signal would begin it."""
    line.worker.listeners = []
    line.worker.welcome()
    line.worker.draining = True
    line.worker.quick = quick


def test_an_idle_client_gets_a_last_call(dial: Dial) -> None:
    line = dial(keepalive=60)
    served(line)
    drain(line)
    assert not line.worker.finished
    before = clock()
    line.worker.look_around(before)
    assert line.connection.wire.closing
    assert before <= line.connection.deadline <= clock() + milliseconds(LAST_CALL)
    line.worker.look_around(line.connection.deadline)
    assert dropped(line)
    assert line.worker.finished


def test_a_client_in_the_middle_of_a_head_keeps_its_time(dial: Dial) -> None:
    line = dial(header_timeout=60)
    assert not line.send(GET[:5])
    before = line.connection.deadline
    drain(line)
    line.worker.look_around(clock())
    assert line.connection.deadline == before
    assert line.connection.wire.closing, "but it is its last request"


def test_what_was_sent_behind_a_request_that_runs_is_answered_too(dial: Dial) -> None:
    line = dial()
    assert line.send(GET + GET)
    line.connection.running = True
    drain(line)
    line.worker.look_around(clock())
    assert not line.connection.wire.closing
    assert line.serve().count(b" 200 OK\r\n") == 2


def test_a_quick_end_waits_for_no_idle_client(dial: Dial) -> None:
    line = dial()
    served(line)
    drain(line, quick=True)
    line.worker.look_around(clock())
    assert dropped(line)


def test_the_time_for_draining_is_over(dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    line = dial()
    drain(line)
    line.worker.phase(0, 1)
    assert not line.worker.out_of_time(clock())
    assert line.worker.out_of_time(clock() + 1001)
    assert caplog.messages == [f"Worker graceful timeout (pid:{line.worker.pid})"]
    line.worker.drop(line.connection)
    line.worker.look_around(clock())
    assert not line.worker.out_of_time(FAR), "nothing is left to do"


def test_a_draining_worker_looks_more_often(dial: Dial) -> None:
    line = dial()
    assert line.worker.pace == TICK
    drain(line)
    assert line.worker.pace == DRAIN_TICK


def test_running_are_those_with_the_application(dial: Dial) -> None:
    line = dial()
    assert line.worker.running() == []
    line.connection.running = True
    assert line.worker.running() == [line.connection]
