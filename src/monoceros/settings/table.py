"""The table of settings: one row each, and all that is known about it stands on that row.

The command line, the check of config files, the variables, the reference page and `--print-config` are loops over
`ROWS`. Names, flags and defaults are Gunicorn's where the meaning is the same.
"""

# ruff: noqa: RUF009 (it takes what `row` gives for a default, but these are fields)

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from monoceros.settings import asgi_values, hooks, log_values, process_values, values
from monoceros.settings.hooks import Hook
from monoceros.settings.values import Address, Networks

T = TypeVar("T")

# Where a setting may be given. VARIABLE is MONOCEROS_<SETTING>.
FLAG: Final = "flag"
VARIABLE: Final = "variable"
FILE: Final = "file"
ANYWHERE: Final = frozenset((FLAG, VARIABLE, FILE))


class SettingsError(Exception):
    """The settings are not usable. The text is one line for the user; `status` is what to exit with."""

    status = 1


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about one setting.

    `parse` makes a value of text or of a native value, or raises ValueError saying what would be right. `live` says
    that a reload takes a new value over. `action` is argparse's, or "switch" for a pair --X, --no-X. `sources` says
    where it may be set. `example` is a value as a config file would give it; `shown` stands on the reference page for
    a default that depends on the place.
    """

    name: str
    default: Any
    parse: Callable[[object], Any]
    flags: tuple[str, ...]
    help: str
    section: str
    live: bool
    metavar: str
    action: str
    sources: frozenset[str]
    example: str
    shown: str

    @property
    def flag(self) -> str:
        """The flag by which messages call it: the first long one, or "" if it has none."""
        return next((flag for flag in self.flags if flag.startswith("--")), "")

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"MONOCEROS_{self.name.upper()}"


def row(
    default: T,
    parse: Callable[[object], T],
    flags: str,
    help: str,
    *,
    section: str,
    live: bool = True,
    metavar: str = "",
    action: str = "store",
    sources: frozenset[str] = ANYWHERE,
    example: str = "",
    shown: str = "",
) -> T:
    """A field of `Settings` with its `Row`."""
    known = Row("", default, parse, tuple(flags.split()), help, section, live, metavar, action, sources, example, shown)
    # By factory, because dataclasses take what cannot be hashed for mutable, and a read-only mapping cannot.
    return field(default_factory=lambda: default, metadata={"row": known})


def hook_row(parse: Callable[[object], Hook | None], help: str, example: str) -> Hook | None:
    """A row of a hook, which only a config file can give."""
    sources = frozenset((FILE,))
    return row(None, parse, "", help, section="Server Hooks", sources=sources, example=example)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set, parsed. Durations are in seconds, sizes in bytes.

    `origins` says where each value that is not the default came from; `notes` are warnings from loading, for the log.
    `manner` is "uvicorn" where people speak Uvicorn's language, by its worker classes or its options, else "gunicorn":
    it decides how log lines look. `env_file_variables` is what env_file adds to the environment, as (name, value).
    """

    # --- Config File ---

    config: str | None = row(
        None,
        values.text_or_none,
        "-c --config",
        "The config file: a path to a Python or a TOML file (by its name), `file:PATH`, or `python:MODULE`. Without "
        "it, the first of these in the working directory is read: `monoceros.conf.py`, `gunicorn.conf.py`, "
        "`monoceros.toml`, `pyproject.toml` if that has a table `[tool.monoceros]`.",
        section="Config File",
        metavar="CONFIG",
        sources=frozenset((FLAG, VARIABLE)),
        example="'deploy/gunicorn.conf.py'",
    )
    wsgi_app: str | None = row(
        None,
        values.text_or_none,
        "",
        "The application as MODULE:VARIABLE, used when the command line does not name one.",
        section="Config File",
        example="'myproject.wsgi:application'",
    )

    # --- Server Socket ---

    bind: tuple[Address, ...] = row(
        (Address("tcp", host=values.DEFAULT_HOST, port=values.DEFAULT_PORT),),
        values.addresses,
        "-b --bind",
        "Where to listen: HOST, PORT, HOST:PORT, [IPV6]:PORT, unix:PATH (unix:@NAME is an abstract socket) or "
        "fd://NUMBER. The flag may be repeated. The variable PORT sets the default to 0.0.0.0:$PORT.",
        section="Server Socket",
        metavar="ADDRESS",
        action="append",
        example="['127.0.0.1:8000', 'unix:/run/myproject.sock']",
    )
    backlog: int = row(
        2048,
        values.positive,
        "--backlog",
        "How many connections the kernel may queue for each address. The kernel has a limit of its own "
        "(net.core.somaxconn).",
        section="Server Socket",
        live=False,
        metavar="INT",
        example="4096",
    )

    # --- Worker Processes ---

    workers: int = row(
        1,
        values.workers,
        "-w --workers",
        "How many worker processes to keep; `auto` is one for each CPU that this process may use. The variable "
        "WEB_CONCURRENCY sets the default.",
        section="Worker Processes",
        metavar="INT",
        example="4",
    )
    worker_class: str = row(
        "auto",
        values.worker_class,
        "-k --worker-class",
        "The kind of worker: `auto` (what suits the application), `sync` (one request at a time), `gthread` (as many "
        "as there are threads), `gevent` (a greenlet for each connection) or `asgi` (an event loop). The names and "
        "classes of Gunicorn's and Uvicorn's workers are understood; of a class made from Uvicorn's, its "
        "CONFIG_KWARGS count, before variables and flags.",
        section="Worker Processes",
        metavar="STRING",
        example="'gthread'",
    )
    threads: int = row(
        1,
        values.positive,
        "--threads",
        "How many requests a worker serves at the same time, each in its own thread. More than 1 makes a sync worker "
        "a gthread worker; asgi and gevent workers have no use for it.",
        section="Worker Processes",
        metavar="INT",
        example="8",
    )
    worker_connections: int = row(
        1000,
        values.positive,
        "--worker-connections",
        "How many connections a worker holds open at most, idle ones included.",
        section="Worker Processes",
        metavar="INT",
        example="2000",
    )
    max_requests: int = row(
        0,
        values.count,
        "--max-requests --limit-max-requests",
        "After how many requests a worker is replaced, against memory leaks; 0 is never.",
        section="Worker Processes",
        metavar="INT",
        example="10000",
    )
    max_requests_jitter: int = row(
        0,
        values.count,
        "--max-requests-jitter --limit-max-requests-jitter",
        "Up to how many requests to add to max_requests, by chance and for each worker, so that they are not all "
        "replaced at once.",
        section="Worker Processes",
        metavar="INT",
        example="1000",
    )
    timeout: float = row(
        30.0,
        values.seconds,
        "-t --timeout --timeout-worker-healthcheck",
        "After how many seconds of silence a worker is taken for stuck, killed and replaced; 0 is never.",
        section="Worker Processes",
        metavar="SECONDS",
        example="60",
    )
    graceful_timeout: float = row(
        30.0,
        values.seconds,
        "--graceful-timeout --timeout-graceful-shutdown",
        "How many seconds a worker that is told to stop may take to finish what it has begun.",
        section="Worker Processes",
        metavar="SECONDS",
        example="10",
    )
    boot_timeout: float = row(
        120.0,
        values.seconds,
        "--boot-timeout",
        "How many seconds a worker may take to import the application and to get ready; 0 is for ever.",
        section="Worker Processes",
        metavar="SECONDS",
        example="300",
    )
    max_worker_lifetime: float = row(
        0.0,
        values.seconds,
        "--max-worker-lifetime",
        "After how many seconds a worker is replaced; 0 is never.",
        section="Worker Processes",
        metavar="SECONDS",
        example="86400",
    )
    max_worker_memory: int = row(
        0,
        values.size,
        "--max-worker-memory",
        "Above how much resident memory a worker is replaced, in bytes; 0 is no limit.",
        section="Worker Processes",
        metavar="BYTES",
        example="'512M'",
    )
    drain_delay: float = row(
        0.0,
        values.seconds,
        "--drain-delay",
        "How many seconds the server goes on as before when it is told to stop in order, so that a load balancer has "
        "the time to notice.",
        section="Worker Processes",
        metavar="SECONDS",
        example="5",
    )
    keepalive: float = row(
        2.0,
        values.seconds,
        "--keep-alive --timeout-keep-alive",
        "How many seconds to wait for the next request on a connection; 0 closes it after each answer. Behind a proxy "
        "that keeps connections, take more than the proxy does.",
        section="Worker Processes",
        metavar="SECONDS",
        example="75",
    )
    header_timeout: float = row(
        30.0,
        values.seconds,
        "--header-timeout",
        "How many seconds a client may take for the whole head of a request, from its first byte; 0 is no limit.",
        section="Worker Processes",
        metavar="SECONDS",
        example="10",
    )
    body_timeout: float = row(
        30.0,
        values.seconds,
        "--body-timeout",
        "How many seconds may pass without a byte while the body of a request is read, or a response taken; 0 is no "
        "limit.",
        section="Worker Processes",
        metavar="SECONDS",
        example="60",
    )
    request_buffer: int = row(
        65536,
        values.size,
        "--request-buffer",
        "How many bytes of a request (its head and a small body) are collected before a thread is given to it, so that "
        "a slow client costs none. For ASGI: how much of a body may wait for the application.",
        section="Worker Processes",
        metavar="BYTES",
        example="'256K'",
    )

    # --- ASGI ---

    asgi_loop: str = row(
        "auto",
        asgi_values.event_loop,
        "--asgi-loop --loop",
        "The event loop of ASGI applications: `asyncio`, `uvloop`, or `auto`, which is uvloop where it is installed.",
        section="ASGI",
        metavar="CHOICE",
        example="'uvloop'",
    )
    asgi_lifespan: str = row(
        "auto",
        asgi_values.lifespan,
        "--asgi-lifespan --lifespan",
        "Whether an ASGI application is told of its start and its end: `on` (if its start fails, so does the worker), "
        "`off`, or `auto` (an application that does not know of this is left in peace).",
        section="ASGI",
        metavar="CHOICE",
        example="'on'",
    )
    asgi_disconnect_grace_period: float = row(
        3.0,
        values.seconds,
        "--asgi-disconnect-grace-period",
        "How many seconds an ASGI application may go on with a request whose client has gone.",
        section="ASGI",
        metavar="SECONDS",
        example="10",
    )
    websocket_max_message_size: int = row(
        16 * 1024 * 1024,
        values.size,
        "--websocket-max-message-size --ws-max-size",
        "How long a WebSocket message may be, in bytes; a longer one closes the connection with code 1009.",
        section="ASGI",
        metavar="BYTES",
        example="'1M'",
    )

    # --- Security ---

    limit_request_line: int = row(
        4094,
        values.size,
        "--limit-request-line",
        "How long a request line may be, in bytes; 0 leaves only the limit for the whole head.",
        section="Security",
        metavar="BYTES",
        example="8190",
    )
    limit_request_fields: int = row(
        100,
        values.count,
        "--limit-request-fields",
        "How many header fields a request may have; 0 leaves only the limit for the whole head.",
        section="Security",
        metavar="INT",
        example="50",
    )
    limit_request_field_size: int = row(
        8190,
        values.size,
        "--limit-request-field_size --limit-request-field-size",
        "How long a header field may be, in bytes; 0 leaves only the limit for the whole head.",
        section="Security",
        metavar="BYTES",
        example="'16K'",
    )
    limit_request_body: int = row(
        0,
        values.size,
        "--limit-request-body",
        "How long the body of a request may be, in bytes; a longer one is answered with status 413. 0 is no limit.",
        section="Security",
        metavar="BYTES",
        example="'10M'",
    )
    forwarded_allow_ips: Networks = row(
        Networks("127.0.0.1", "::1"),
        values.networks,
        "--forwarded-allow-ips",
        "The proxies that may say who the client is and which scheme it used: IP addresses and networks, `*` for any. "
        "The variable FORWARDED_ALLOW_IPS sets the default.",
        section="Security",
        metavar="NETWORKS",
        example="'10.0.0.0/8,127.0.0.1'",
    )
    secure_scheme_headers: Mapping[str, str] = row(
        MappingProxyType({"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}),
        values.mapping,
        "",
        "Which header fields of a trusted proxy say that the client came by HTTPS, and with which text.",
        section="Security",
        sources=frozenset((FILE,)),
        example="{'X-FORWARDED-PROTO': 'https'}",
    )
    forwarder_headers: tuple[str, ...] = row(
        ("SCRIPT_NAME", "PATH_INFO"),
        values.header_names,
        "--forwarder-headers",
        "Header names with an underscore that a trusted proxy may set, whatever header_map says; `*` for all.",
        section="Security",
        metavar="NAMES",
        example="'SCRIPT_NAME,REMOTE_USER'",
    )
    header_map: str = row(
        "drop",
        values.header_map,
        "--header-map",
        "What to do with a header name that has an underscore, which in an environ looks like one with a dash: `drop` "
        "the field, `refuse` the request, or let both in (`dangerous`).",
        section="Security",
        metavar="CHOICE",
        example="'refuse'",
    )

    # --- Server Mechanics ---

    preload_app: bool = row(
        False,
        values.boolean,
        "--preload",
        "Import the application once, before the workers are forked. Saves memory and time, but a reload does not "
        "bring new code.",
        section="Server Mechanics",
        live=False,
        action="store_true",
        example="True",
    )
    sendfile: bool = row(
        True,
        process_values.sendfile,
        "--no-sendfile",
        "Whether the kernel copies files to clients (sendfile). The flag turns it off. The variable SENDFILE sets the "
        "default: y, yes, 1 or true, anything else is off.",
        section="Server Mechanics",
        action="store_false",
        example="False",
    )
    reuse_port: bool = row(
        False,
        values.boolean,
        "--reuse-port",
        "Give each worker listening sockets of its own (SO_REUSEPORT), among which the kernel draws lots.",
        section="Server Mechanics",
        live=False,
        action="store_true",
        example="True",
    )
    chdir: str = row(
        ".",
        values.directory,
        "--chdir",
        "The directory to work in, and to import the application from. The config file is looked up before.",
        section="Server Mechanics",
        live=False,
        metavar="DIR",
        example="'/srv/myproject'",
        shown="the directory in which the server is started",
    )
    pythonpath: str = row(
        "",
        values.paths,
        "--pythonpath",
        "Further directories to import from, comma-separated. As with Gunicorn, the last one is searched first.",
        section="Server Mechanics",
        metavar="DIRS",
        example="'/srv/lib,/srv/plugins'",
    )
    raw_env: tuple[str, ...] = row(
        (),
        values.environment,
        "-e --env",
        "Environment variables for the application, as NAME=VALUE. The flag may be repeated.",
        section="Server Mechanics",
        metavar="NAME=VALUE",
        action="append",
        example="['DJANGO_SETTINGS_MODULE=myproject.settings']",
    )
    root_path: str = row(
        "",
        values.text_or_blank,
        "--root-path",
        "The path under which a proxy publishes the application (ASGI's root_path).",
        section="Server Mechanics",
        metavar="PATH",
        example="'/api'",
    )
    daemon: bool = row(
        False,
        values.boolean,
        "-D --daemon",
        "Go into the background.",
        section="Server Mechanics",
        live=False,
        action="store_true",
        example="True",
    )
    pidfile: str | None = row(
        None,
        values.text_or_none,
        "-p --pid",
        "The file to write the process id of the server to.",
        section="Server Mechanics",
        live=False,
        metavar="FILE",
        example="'/run/myproject.pid'",
    )
    user: int | None = row(
        cast("int | None", None),
        process_values.user,
        "-u --user",
        "The user that workers run as, by name or number; to change it, the server must be started by root.",
        section="Server Mechanics",
        metavar="USER",
        example="'nobody'",
        shown="the user who starts the server",
    )
    group: int | None = row(
        cast("int | None", None),
        process_values.group,
        "-g --group",
        "The group that workers run as, by name or number.",
        section="Server Mechanics",
        metavar="GROUP",
        example="'daemon'",
        shown="the group of who starts the server",
    )
    initgroups: bool = row(
        False,
        values.boolean,
        "--initgroups",
        "Whether workers are in all the groups of their user, too.",
        section="Server Mechanics",
        action="store_true",
        example="True",
    )
    umask: int = row(
        0,
        process_values.umask,
        "-m --umask",
        "Which permissions the files that the server makes do not get (Unix sockets, for example): `022` is octal.",
        section="Server Mechanics",
        metavar="MASK",
        example="0o027",
    )
    worker_tmp_dir: str | None = row(
        None,
        values.text_or_none,
        "--worker-tmp-dir",
        "Where Gunicorn keeps its workers' heartbeats. Accepted, and not needed: these are in memory here.",
        section="Server Mechanics",
        metavar="DIR",
        example="'/dev/shm'",
    )
    tmp_upload_dir: str | None = row(
        None,
        values.text_or_none,
        "",
        "Accepted, and not needed, as with Gunicorn.",
        section="Server Mechanics",
        sources=frozenset((VARIABLE, FILE)),
        example="'/var/tmp'",
    )
    paste: str | None = row(
        None,
        values.text_or_none,
        "--paste --paster",
        "The application as a PasteDeploy file describes it: FILE or FILE#SECTION. Its sections for logging count, "
        "unless a config file says otherwise, its `[server:main]` does not. Needs PasteDeploy.",
        section="Server Mechanics",
        live=False,
        metavar="FILE",
        sources=frozenset((FLAG, VARIABLE)),
        example="'production.ini#main'",
    )
    raw_paste_global_conf: tuple[str, ...] = row(
        (),
        values.environment,
        "--paste-global",
        "What to add to the global configuration of a PasteDeploy file, as KEY=VALUE. The flag may be repeated.",
        section="Server Mechanics",
        metavar="KEY=VALUE",
        action="append",
        example="['database=postgres://db/myproject']",
    )
    env_file: str | None = row(
        None,
        values.text_or_none,
        "--env-file",
        "A file of NAME=VALUE lines with environment variables for the application; those that are set already stay. "
        "WEB_CONCURRENCY, PORT, FORWARDED_ALLOW_IPS and SENDFILE count there, too. Needs python-dotenv.",
        section="Server Mechanics",
        metavar="FILE",
        sources=frozenset((FLAG, VARIABLE)),
        example="'.env'",
    )
    app_dir: str = row(
        "",
        values.text_or_blank,
        "--app-dir",
        "One more directory to import from, searched first.",
        section="Server Mechanics",
        metavar="DIR",
        sources=frozenset((FLAG, VARIABLE)),
        example="'src'",
    )
    factory: bool = row(
        False,
        values.boolean,
        "--factory",
        "What is named as the application is a function that makes it, to be called without arguments.",
        section="Server Mechanics",
        action="store_true",
        example="True",
    )

    # --- Process Naming ---

    proc_name: str | None = row(
        None,
        values.text_or_none,
        "-n --name",
        "What to call the processes, in place of the application's name.",
        section="Process Naming",
        live=False,
        metavar="STRING",
        example="'myproject'",
    )
    default_proc_name: str = row(
        "monoceros",
        values.text,
        "",
        "What to call the processes where neither proc_name nor the application says it. With paste it is that file.",
        section="Process Naming",
        live=False,
        sources=frozenset((VARIABLE, FILE)),
        example="'myproject'",
    )

    # --- Logging ---

    accesslog: str | None = row(
        None,
        values.text_or_none,
        "--access-logfile",
        "The file for one line a request; `-` is standard output. Without it there is no access log.",
        section="Logging",
        metavar="FILE",
        example="'-'",
    )
    access_log_format: str = row(
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        values.text,
        "--access-logformat",
        "How a line of the access log is made, in Gunicorn's notation.",
        section="Logging",
        metavar="STRING",
        example="'%(h)s \"%(r)s\" %(s)s %(M)sms'",
    )
    log_format: str = row(
        "text",
        log_values.log_format,
        "--log-format",
        "What lines of both logs look like: `text`, or `json` for one JSON object a line, where access_log_format does "
        "not count.",
        section="Logging",
        metavar="FORMAT",
        example="'json'",
    )
    log_redact: tuple[str, ...] = row(
        log_values.SECRETS,
        log_values.patterns,
        "--log-redact",
        "Whose values are `[redacted]` in log lines: names in queries, and of fields that access_log_format asks for. "
        "`*` stands for anything, case does not matter. Empty shows all, and lets access_log_format ask for "
        "Authorization and cookies.",
        section="Logging",
        metavar="NAMES",
        example="['*token*', 'password', 'code']",
    )
    request_id: bool | None = row(
        cast("bool | None", None),
        asgi_values.boolean_or_none,
        "--request-id --no-request-id",
        "Whether each request has an id: the X-Request-ID of a trusted proxy (forwarded_allow_ips), else one that is "
        "made. The application finds it in that field, and the logs show it. Left open, requests have one where "
        "log_format is json.",
        section="Logging",
        action="switch",
        example="True",
        shown="left open",
    )
    slow_request: float = row(
        0.0,
        values.seconds,
        "--slow-request",
        "After how many seconds a request that still runs gets a warning in the error log, with the stack that shows "
        "where it is; 0 is never.",
        section="Logging",
        metavar="SECONDS",
        example="2.5",
    )
    errorlog: str | None = row(
        cast("str | None", "-"),
        values.text_or_none,
        "--error-logfile --log-file",
        "The file for everything else; `-` is standard error. None writes nothing.",
        section="Logging",
        metavar="FILE",
        example="'/var/log/myproject/error.log'",
    )
    loglevel: str = row(
        "info",
        asgi_values.loglevel,
        "--log-level",
        "How much the error log says: debug, info, warning, error or critical. Uvicorn's `trace` counts as debug, "
        "and a level that nobody knows as info.",
        section="Logging",
        metavar="LEVEL",
        example="'warning'",
    )
    capture_output: bool = row(
        False,
        values.boolean,
        "--capture-output",
        "Send what the application prints to the error log.",
        section="Logging",
        live=False,
        action="store_true",
        example="True",
    )
    logconfig: str | None = row(
        None,
        values.text_or_none,
        "--log-config",
        "A file that configures logging, as Python's logging.config reads it; .json and .yaml files hold a dict.",
        section="Logging",
        metavar="FILE",
        example="'logging.conf'",
    )
    logconfig_json: str | None = row(
        None,
        values.text_or_none,
        "--log-config-json",
        "A JSON file with a dict that configures logging, as Python's logging.config reads it; counts more than "
        "logconfig.",
        section="Logging",
        metavar="FILE",
        example="'logging.json'",
    )
    logconfig_dict: Mapping[str, Any] = row(
        cast("Mapping[str, Any]", MappingProxyType({})),
        process_values.log_config,
        "",
        "A dict that configures logging, as Python's logging.config reads it; counts more than logconfig_json and "
        "logconfig.",
        section="Logging",
        sources=frozenset((FILE,)),
        example="{'version': 1, 'loggers': {'myproject': {'level': 'DEBUG'}}}",
    )
    logger_class: str | type = row(
        cast("str | type", log_values.GUNICORNS_LOGGER),
        log_values.logger_class,
        "--logger-class",
        "The class that writes the logs: one made from `monoceros.ops.logger.Logger`, or from Gunicorn's where that is "
        "installed. Each request calls its `access`.",
        section="Logging",
        metavar="STRING",
        example="'myproject.logs.Logger'",
    )
    syslog: bool = row(
        False,
        values.boolean,
        "--log-syslog",
        "Send the error log and the access log to syslog, too.",
        section="Logging",
        action="store_true",
        example="True",
    )
    syslog_addr: str = row(
        log_values.SYSLOG_ADDRESS,
        log_values.syslog_addr,
        "--log-syslog-to",
        "Where syslog listens. Of a path without `#dgram`, datagrams are tried first, then a stream.",
        section="Logging",
        metavar="SYSLOG_ADDR",
        example="'unix:///dev/log#dgram'",
        shown="`'udp://localhost:514'`, on Linux",
    )
    syslog_prefix: str | None = row(
        None,
        values.text_or_none,
        "--log-syslog-prefix",
        "What lines for syslog begin with, after `gunicorn.`; without it the name of the process.",
        section="Logging",
        metavar="SYSLOG_PREFIX",
        example="'myproject'",
    )
    syslog_facility: str = row(
        "user",
        log_values.syslog_facility,
        "--log-syslog-facility",
        "What syslog takes us for.",
        section="Logging",
        metavar="SYSLOG_FACILITY",
        example="'daemon'",
    )
    disable_redirect_access_to_syslog: bool = row(
        False,
        values.boolean,
        "--disable-redirect-access-to-syslog",
        "Send only the error log to syslog.",
        section="Logging",
        action="store_true",
        example="True",
    )
    statsd_host: Address | None = row(
        cast("Address | None", None),
        log_values.statsd_host,
        "--statsd-host",
        "Where a statsD listens, which is told of requests, workers and errors.",
        section="Logging",
        metavar="STATSD_ADDR",
        example="'localhost:8125'",
    )
    statsd_prefix: str = row(
        "",
        values.text_or_blank,
        "--statsd-prefix",
        "What names of metrics begin with; a dot follows.",
        section="Logging",
        metavar="STATSD_PREFIX",
        example="'myproject'",
    )
    dogstatsd_tags: str = row(
        "",
        values.text_or_blank,
        "--dogstatsd-tags",
        "Tags for all metrics, comma-separated, as Datadog's statsD knows them.",
        section="Logging",
        metavar="DOGSTATSD_TAGS",
        example="'env:prod,zone:1'",
    )
    enable_backlog_metric: bool = row(
        False,
        values.boolean,
        "--enable-backlog-metric",
        "Tell statsD once a second how many connections wait to be accepted.",
        section="Logging",
        action="store_true",
        example="True",
    )
    enable_stdio_inheritance: bool = row(
        False,
        values.boolean,
        "-R --enable-stdio-inheritance",
        "Whether a server in the background (daemon) keeps its standard output and standard error.",
        section="Logging",
        live=False,
        action="store_true",
        example="True",
    )

    # --- Metrics and Health ---

    admin_bind: tuple[Address, ...] = row(
        (),
        values.admin_addresses,
        "--admin-bind",
        "Where to serve what operators ask for, as `bind` says it: `/health/live`, `/health/ready`, `/metrics` and "
        "`/stats`. A port alone is one of 127.0.0.1. Nobody is asked for a password there, so do not let strangers in. "
        "The flag may be repeated.",
        section="Metrics and Health",
        metavar="ADDRESS",
        action="append",
        example="'127.0.0.1:9100'",
    )
    min_ready_workers: int = row(
        1,
        values.positive,
        "--min-ready-workers",
        "How many workers must be ready for `/health/ready` to say that the server is.",
        section="Metrics and Health",
        metavar="INT",
        example="2",
    )
    prometheus_multiproc: bool = row(
        True,
        values.boolean,
        "--prometheus-multiproc --no-prometheus-multiproc",
        "Whether the metrics of an application that uses prometheus_client are kept for all workers together: the "
        "server makes and tidies the directory PROMETHEUS_MULTIPROC_DIR. It does nothing where prometheus_client is "
        "not installed, nor for a single worker without `admin_bind`.",
        section="Metrics and Health",
        live=False,
        action="switch",
        example="False",
    )

    # --- Server Hooks ---

    on_starting: Hook | None = hook_row(
        hooks.hook("server"),
        "Called in the master before anything else is done.",
        "def on_starting(server):\n    server.log.info('Here we go')",
    )
    on_reload: Hook | None = hook_row(
        hooks.hook("server"),
        "Called in the master when a reload (HUP) begins.",
        "def on_reload(server):\n    server.log.info('Reloading')",
    )
    when_ready: Hook | None = hook_row(
        hooks.hook("server"),
        "Called in the master when it listens, before there are workers.",
        "def when_ready(server):\n    server.log.info('Listening')",
    )
    pre_fork: Hook | None = hook_row(
        hooks.hook("server", "worker"),
        "Called in the master before it makes a worker.",
        "def pre_fork(server, worker):\n    server.log.info('Making worker %s', worker.age)",
    )
    post_fork: Hook | None = hook_row(
        hooks.hook("server", "worker"),
        "Called in a worker as soon as it exists, before the application is imported.",
        "def post_fork(server, worker):\n    worker.log.info('Worker %s', worker.pid)",
    )
    post_worker_init: Hook | None = hook_row(
        hooks.hook("worker"),
        "Called in a worker that has imported the application.",
        "def post_worker_init(worker):\n    worker.log.info('Ready')",
    )
    worker_int: Hook | None = hook_row(
        hooks.hook("worker"),
        "Called in a worker that is told to stop by INT or QUIT, or by the reloader.",
        "def worker_int(worker):\n    worker.log.info('Interrupted')",
    )
    worker_abort: Hook | None = hook_row(
        hooks.hook("worker"),
        "Called in a worker that is taken for stuck, before it is killed (ABRT).",
        "def worker_abort(worker):\n    worker.log.info('Stuck')",
    )
    pre_exec: Hook | None = hook_row(
        hooks.hook("server"),
        "Called in the master before it starts its successor (USR2).",
        "def pre_exec(server):\n    server.log.info('Upgrading')",
    )
    pre_request: Hook | None = hook_row(
        hooks.hook("worker", "req"),
        "Called in a worker before each request.",
        "def pre_request(worker, req):\n    worker.log.debug('%s %s', req.method, req.path)",
    )
    post_request: Hook | None = hook_row(
        hooks.post_request,
        "Called in a worker after each request. The last argument may be left out, and the last two.",
        "def post_request(worker, req, environ, resp):\n    worker.log.debug('%s %s', req.path, resp.status)",
    )
    child_exit: Hook | None = hook_row(
        hooks.hook("server", "worker"),
        "Called in the master after a worker has gone.",
        "def child_exit(server, worker):\n    server.log.info('Worker %s has gone', worker.pid)",
    )
    worker_exit: Hook | None = hook_row(
        hooks.hook("server", "worker"),
        "Called in a worker before it goes.",
        "def worker_exit(server, worker):\n    worker.log.info('Going')",
    )
    nworkers_changed: Hook | None = hook_row(
        hooks.hook("server", "new_value", "old_value"),
        "Called in the master when the number of workers has changed; the first time, the old one is None.",
        "def nworkers_changed(server, new_value, old_value):\n    server.log.info('%s workers', new_value)",
    )
    on_exit: Hook | None = hook_row(
        hooks.hook("server"),
        "Called in the master before it goes.",
        "def on_exit(server):\n    server.log.info('Good bye')",
    )

    # --- Uvicorn's options ---

    host: str | None = row(
        None,
        asgi_values.host,
        "--host",
        "The host to listen at: with port, another way to say bind. Where only one of them is given, the host is "
        "127.0.0.1, and the port that of bind in a place that counts less, else 8000.",
        section="Uvicorn's options",
        metavar="HOST",
        sources=frozenset((FLAG, VARIABLE)),
        example="'0.0.0.0'",
    )
    port: int | None = row(
        None,
        asgi_values.port,
        "--port",
        "The port to listen at; see host.",
        section="Uvicorn's options",
        metavar="PORT",
        sources=frozenset((FLAG, VARIABLE)),
        example="8080",
    )
    uds: str | None = row(
        None,
        asgi_values.socket_path,
        "--uds",
        "The Unix socket to listen at: another way to say bind.",
        section="Uvicorn's options",
        metavar="PATH",
        sources=frozenset((FLAG, VARIABLE)),
        example="'/run/myproject.sock'",
    )
    fd: int | None = row(
        None,
        asgi_values.descriptor,
        "--fd",
        "The inherited descriptor to listen at: another way to say bind.",
        section="Uvicorn's options",
        metavar="NUMBER",
        sources=frozenset((FLAG, VARIABLE)),
        example="3",
    )
    access_log: bool | None = row(
        cast("bool | None", None),
        asgi_values.boolean_or_none,
        "--access-log --no-access-log",
        "Whether there is an access log: on standard output, if accesslog names no file. Left open, there is one if "
        "accesslog says so, or if options were given that only Uvicorn has.",
        section="Uvicorn's options",
        action="switch",
        sources=frozenset((FLAG, VARIABLE)),
        example="False",
        shown="left open",
    )
    use_colors: bool | None = row(
        cast("bool | None", None),
        asgi_values.boolean_or_none,
        "--use-colors --no-use-colors",
        "Whether log lines have colours: the level in the error log, on a terminal only, and lines in Uvicorn's style. "
        "Left open, they have where a terminal shows them, unless the variable NO_COLOR is set.",
        section="Uvicorn's options",
        action="switch",
        example="False",
        shown="left open",
    )
    proxy_headers: bool = row(
        True,
        values.boolean,
        "--proxy-headers --no-proxy-headers",
        "Whether the header fields of trusted proxies (forwarded_allow_ips) count.",
        section="Uvicorn's options",
        action="switch",
        example="False",
    )
    server_header: bool = row(
        True,
        values.boolean,
        "--server-header --no-server-header",
        "Whether responses say in a field Server who serves.",
        section="Uvicorn's options",
        action="switch",
        example="False",
    )
    date_header: bool = row(
        True,
        values.boolean,
        "--date-header --no-date-header",
        "Whether responses say in a field Date when they were made.",
        section="Uvicorn's options",
        action="switch",
        example="False",
    )
    headers: tuple[tuple[str, str], ...] = row(
        (),
        asgi_values.fields,
        "--header",
        "Header fields for every response, as `Name: Value`. The flag may be repeated.",
        section="Uvicorn's options",
        metavar="FIELD",
        action="append",
        example="[('X-Frame-Options', 'DENY'), ('X-Served-By', 'eu-1')]",
    )
    limit_concurrency: int = row(
        0,
        values.count,
        "--limit-concurrency",
        "Above how many requests at a time in one worker the answer is status 503; 0 is no limit.",
        section="Uvicorn's options",
        metavar="INT",
        example="100",
    )
    ws: str = row(
        "auto",
        asgi_values.websockets,
        "--ws",
        "Whether WebSocket connections are taken: `auto`, or `none`. The names of Uvicorn's implementations "
        "(websockets, websockets-sansio, wsproto) mean auto.",
        section="Uvicorn's options",
        metavar="CHOICE",
        example="'none'",
    )
    ws_ping_interval: float = row(
        20.0,
        asgi_values.seconds_or_never,
        "--ws-ping-interval",
        "After how many seconds to ask a WebSocket client whether it is still there; 0 is never.",
        section="Uvicorn's options",
        metavar="SECONDS",
        example="60",
    )
    ws_ping_timeout: float = row(
        20.0,
        asgi_values.seconds_or_never,
        "--ws-ping-timeout",
        "How many seconds a WebSocket client may take to say so, before the connection is closed; 0 is no limit.",
        section="Uvicorn's options",
        metavar="SECONDS",
        example="10",
    )
    ws_per_message_deflate: bool = row(
        True,
        values.boolean,
        "--ws-per-message-deflate",
        "Whether WebSocket messages are compressed for clients that offer it.",
        section="Uvicorn's options",
        metavar="BOOL",
        example="False",
    )

    # --- Debugging ---

    reload: bool = row(
        False,
        values.boolean,
        "--reload",
        "Start the workers anew when code has changed. For development.",
        section="Debugging",
        live=False,
        action="store_true",
        example="True",
    )
    reload_engine: str = row(
        "auto",
        process_values.reload_engine,
        "--reload-engine",
        "How the reloader sees that: `watchfiles` (which is a package), `inotify` (the kernel tells), `poll` (it looks "
        "again and again), or `auto`, the best of them that is there.",
        section="Debugging",
        live=False,
        metavar="CHOICE",
        example="'poll'",
    )
    reload_extra_files: tuple[str, ...] = row(
        (),
        process_values.patterns,
        "--reload-extra-file",
        "Further files that the reloader watches, templates for example: paths or patterns, relative to where the "
        "server is started. A file that is not there is an error, a pattern may match none. The flag may be repeated.",
        section="Debugging",
        live=False,
        metavar="FILES",
        action="append",
        example="['/srv/myproject/templates/**/*.html']",
    )
    reload_dirs: tuple[str, ...] = row(
        (),
        process_values.patterns,
        "--reload-dir",
        "The directories that the reloader watches, relative to where the server is started; without them it is the "
        "working directory, `app_dir` and the directories of `pythonpath`. The flag may be repeated.",
        section="Debugging",
        live=False,
        metavar="DIR",
        action="append",
        example="['/srv/myproject']",
    )
    reload_includes: tuple[str, ...] = row(
        (),
        process_values.patterns,
        "--reload-include",
        "Patterns of files in these directories that count beside `*.py`. The flag may be repeated.",
        section="Debugging",
        live=False,
        metavar="PATTERN",
        action="append",
        example="['*.html', '*.toml']",
    )
    reload_excludes: tuple[str, ...] = row(
        (),
        process_values.patterns,
        "--reload-exclude",
        "Patterns of files and directories that do not count. The flag may be repeated.",
        section="Debugging",
        live=False,
        metavar="PATTERN",
        action="append",
        example="['migrations/*']",
    )
    reload_delay: float = row(
        0.25,
        values.seconds,
        "--reload-delay",
        "How many seconds the reloader waits between two looks.",
        section="Debugging",
        live=False,
        metavar="SECONDS",
        example="1",
    )
    spew: bool = row(
        False,
        values.boolean,
        "--spew",
        "Print every line of Python that is executed, to standard output. For debugging, and slow.",
        section="Debugging",
        live=False,
        action="store_true",
        example="True",
    )
    check_config: bool = row(
        False,
        values.boolean,
        "--check-config",
        "Check the settings, import the application, and exit.",
        section="Debugging",
        action="store_true",
        sources=frozenset((FLAG,)),
    )
    print_config: bool = row(
        False,
        values.boolean,
        "--print-config",
        "Print every setting and where it comes from, import the application, and exit.",
        section="Debugging",
        action="store_true",
        sources=frozenset((FLAG,)),
    )

    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    manner: str = "gunicorn"
    # Passwords stand there, so they are in no text that is made of the settings.
    env_file_variables: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)


ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {f.name: replace(f.metadata["row"], name=f.name) for f in fields(Settings) if "row" in f.metadata}
)


def _port(text: str) -> str | None:
    return f"0.0.0.0:{text}" if text else None


def _if_any(text: str) -> str | None:
    return text or None


def _as_it_is(text: str) -> str:
    return text


def _affirmative(text: str) -> bool | None:
    return text.lower() in ("y", "1", "yes", "true") if text else None


# Variables that platforms set: each moves the default of one setting. Platforms leave them empty, too, and None stands
# for "as if it were not set"; but an empty FORWARDED_ALLOW_IPS says that nobody is trusted.
DEFAULTS_FROM_ENVIRONMENT: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = MappingProxyType(
    {
        "PORT": ("bind", _port),
        "WEB_CONCURRENCY": ("workers", _if_any),
        "FORWARDED_ALLOW_IPS": ("forwarded_allow_ips", _as_it_is),
        "SENDFILE": ("sendfile", _affirmative),
    }
)
