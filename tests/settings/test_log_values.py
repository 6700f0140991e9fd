"""What can be said of the outputs of logs and metrics, as Gunicorn understands it."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from monoceros.settings import log_values
from monoceros.settings.log_values import SyslogAddress
from monoceros.settings.values import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8125", Address("tcp", "localhost", 8125)),
        ("Statsd.Example", Address("tcp", "statsd.example", 8125)),
        ("tcp://10.0.0.1:9", Address("tcp", "10.0.0.1", 9)),
        ("[::1]", Address("tcp", "::1", 8125)),
        ("[::1]:9", Address("tcp", "::1", 9)),
        ("unix:8125", Address("tcp", "unix", 8125)),
        ("unix:///run/statsd.sock", Address("unix", path="/run/statsd.sock")),
        ("unix:/run/statsd.sock", Address("unix", path="/run/statsd.sock")),
        ("unix://statsd.sock", Address("unix", path="statsd.sock")),
        ("", None),
        (None, None),
    ],
)
def test_statsd_host(text: object, address: Address | None) -> None:
    assert log_values.statsd_host(text) == address
    if address is not None:
        assert log_values.statsd_host(str(address)) == address


@pytest.mark.parametrize(
    "text", ["localhost:", "localhost:x", "localhost:65536", "a:1:2", "::1", "fd://3", "unix:", 8125]
)
def test_what_is_no_statsd_host(text: object) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|a text"):
        log_values.statsd_host(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("udp://localhost:514", SyslogAddress("datagram", "localhost", 514)),
        ("udp://", SyslogAddress("datagram", "localhost", 514)),
        ("udp://Logs.Example", SyslogAddress("datagram", "logs.example", 514)),
        ("tcp://10.0.0.1:601", SyslogAddress("stream", "10.0.0.1", 601)),
        ("tcp://[::1]:601", SyslogAddress("stream", "::1", 601)),
        ("udp://[::1]", SyslogAddress("datagram", "::1", 514)),
        ("unix:///dev/log", SyslogAddress("", path="/dev/log")),
        ("unix:///dev/log#dgram", SyslogAddress("datagram", path="/dev/log")),
        ("unix:///dev/log#stream", SyslogAddress("", path="/dev/log")),
    ],
)
def test_syslog_addr(text: str, address: SyslogAddress) -> None:
    assert log_values.syslog_addr(text) == text
    assert log_values.parse_syslog_addr(text) == address


@pytest.mark.parametrize(
    "text", ["", "localhost:514", "http://localhost", "udp://a:b", "tcp://a:65536", "unix://", "udp"]
)
def test_what_is_no_syslog_addr(text: str) -> None:
    with pytest.raises(ValueError, match="udp://HOST:PORT"):
        log_values.syslog_addr(text)


def test_the_facilities() -> None:
    assert log_values.syslog_facility("LOCAL7") == "local7"
    assert log_values.FACILITIES["local7"] == 23
    with pytest.raises(ValueError, match="one of auth, authpriv, cron"):
        log_values.syslog_facility("local8")


def test_the_logger_class() -> None:
    assert log_values.logger_class(OrderedDict) is OrderedDict
    assert log_values.logger_class(lambda: OrderedDict) is OrderedDict
    assert log_values.logger_class("my.logs:Logger") == "my.logs:Logger"
    for ours in (
        "simple",
        "gunicorn.glogging.Logger",
        "gunicorn.instrument.statsd.Statsd",
        "monoceros.ops.logger.Logger",
    ):
        assert log_values.logger_class(ours) == "gunicorn.glogging.Logger"
    for wrong in ("", "Logger", "my logs.Logger", 7, None):
        with pytest.raises(ValueError, match="the class itself"):
            log_values.logger_class(wrong)
