"""A Flask application, served as it is.

pip install flask
monoceros --workers 2 --threads 4 examples.flask_app:app
"""

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def hello():
    return {"message": "Hello, World!", "client": request.remote_addr, "url": request.url}


@app.post("/echo")
def echo():
    return {"form": request.form, "json": request.get_json(silent=True), "bytes": len(request.get_data())}
