"""Flask and FastAPI with prometheus_client, as its documentation has them: written for one process, run by many."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from process.admin import Admin
from server import Server, wait_for

pytest.importorskip("flask")
pytest.importorskip("fastapi")

FLASK = """
from flask import Flask
from prometheus_client import Counter

ORDERS = Counter("shop_orders", "Orders taken.", ["kind"])
app = Flask(__name__)

@app.get("/")
def order():
    ORDERS.labels("book").inc()
    return "thanks"
"""
FASTAPI = """
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, make_asgi_app, multiprocess

ORDERS = Counter("shop_orders", "Orders taken.", ["kind"])
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
app = FastAPI()
app.mount("/metrics", make_asgi_app(registry=registry))

@app.get("/")
async def order():
    ORDERS.labels("book").inc()
    return "thanks"
"""


@pytest.mark.parametrize(
    ("args", "app"),
    [(["-k", "sync"], FLASK), (["-k", "gthread", "--threads", "4"], FLASK), (["-k", "asgi"], FASTAPI)],
    ids=["flask-sync", "flask-gthread", "fastapi"],
)
def test_orders_are_summed(serve: Callable[..., Server], args: list[str], app: str) -> None:
    """Over three workers, of which one is killed after it has served, and replaced."""
    admin = Admin()
    server = serve("app:app", "-w", "3", *args, *admin.flags, files={"app.py": app}).ready(workers=3)
    admin.ready()
    for _ in range(20):
        assert server.get("/").status == 200
    served = [each["pid"] for each in admin.expect(lambda told: told["totals"]["requests"] == 20, "all")["each"]]
    server.signal(signal.SIGKILL, served[0])
    admin.expect(lambda told: told["workers"]["ready"] == 3 and told["workers"]["spawned"] == 4, "a successor")
    for _ in range(20):
        assert server.get("/").status == 200
    wait_for(lambda: admin.samples()["shop_orders_total,kind=book"] == 40, what="all orders to be seen")
    if app == FASTAPI:
        assert 'shop_orders_total{kind="book"} 40.0' in server.get("/metrics/").text
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
