"""A Flask application with what such applications do."""

import hashlib
import io

from flask import Flask, Response, jsonify, redirect, request, send_file, session, stream_with_context, url_for

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/")
def index():
    return "<p>Hello, World!</p>"


@app.get("/url")
def url():
    return jsonify(url=request.url, root=url_for("index", _external=True), remote=request.remote_addr)


@app.post("/form")
def form():
    return jsonify(request.form.to_dict())


@app.post("/json")
def echo_json():
    return jsonify(request.get_json())


@app.post("/upload")
def upload():
    file = request.files["file"]
    return jsonify(name=file.filename, digest=hashlib.sha256(file.read()).hexdigest(), note=request.form["note"])


@app.post("/raw")
def raw():
    return hashlib.sha256(request.get_data()).hexdigest()


@app.get("/stream")
def stream():
    @stream_with_context
    def rows():
        for number in range(3):
            yield f"{request.path} {number}\n"

    return Response(rows(), mimetype="text/plain")


@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/x-python", conditional=True)


@app.get("/memory")
def memory():
    return send_file(io.BytesIO(b"from memory"), mimetype="text/plain")


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.get("/redirect")
def away():
    return redirect(url_for("index"))


@app.get("/empty")
def empty():
    return "", 204


@app.get("/broken")
def broken():
    raise RuntimeError("broken on purpose")
