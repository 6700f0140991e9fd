"""WebSocket messages, made of frames (RFC 6455 §5.4)."""

import codecs
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from websockets.extensions.base import Extension
    from websockets.frames import Frame

# RFC 6455 §5.2 and §5.5: from CLOSE on they are about control.
CONTINUATION: Final = 0
TEXT: Final = 1
CLOSE: Final = 8
PONG: Final = 10


class Message(NamedTuple):
    """A whole message: text as `str`, anything else as `bytes`."""

    data: str | bytes


class Assembler:
    """Makes messages of frames: `messages` are those that are whole, `latest_pong` is the last pong's content.

    `frames` counts all that have come, control frames too.

    The library takes this for one of its extensions. It calls `decode` with each frame when it is whole and
    decompressed, before it looks at the next one, and knows how to close for whatever is raised there. So what is
    wrong with a message ends the connection at this very message, however the packets were cut.
    """

    name = "messages"

    __slots__ = ("_content", "_deflate", "_is_text", "_max_size", "_utf8", "frames", "latest_pong", "messages")

    def __init__(self, max_size: int, extensions: "Sequence[Extension]") -> None:
        self._max_size = max_size
        self._deflate: Any = extensions[0] if extensions else None
        self._content: bytearray | None = None  # of a message in fragments
        self._is_text = False
        self._utf8: codecs.IncrementalDecoder | None = None
        self.messages: deque[Message] = deque()
        self.frames = 0
        self.latest_pong: bytes | None = None

    def encode(self, frame: "Frame") -> "Frame":
        """Nothing is done to what we send."""
        return frame

    def decode(self, frame: "Frame", *, max_size: int | None = None) -> "Frame":
        """Take a frame from the peer. Raises what the library understands: `max_size` is its own limit, not ours."""
        self.frames += 1
        frame.check()  # the library's next step: what it refuses must not have become a message
        opcode = frame.opcode
        if opcode >= CLOSE:
            if opcode == PONG:
                self.latest_pong = bytes(frame.data)
            return frame
        self._refuse_end_of_stream()
        if (opcode == CONTINUATION) == (self._content is None):
            return frame  # out of turn, and the library is about to say so
        if opcode == CONTINUATION or not frame.fin:
            self._take_fragment(frame)
        else:
            self._check_size(0, len(frame.data))
            self.messages.append(Message(str(frame.data, "utf-8") if opcode == TEXT else bytes(frame.data)))
        return frame

    def _take_fragment(self, frame: "Frame") -> None:
        """Join the fragments as bytes: a text kept in pieces of one character would take 20 times its size."""
        content = self._content
        if content is None:
            content = self._content = bytearray()
            self._is_text = frame.opcode == TEXT
            self._utf8 = codecs.getincrementaldecoder("utf-8")() if self._is_text else None
        self._check_size(len(content), len(frame.data))
        if self._utf8 is not None:
            self._utf8.decode(bytes(frame.data), frame.fin)  # for what it raises: RFC 6455 §8.1, as soon as possible
        content += frame.data
        if frame.fin:
            self._content = self._utf8 = None
            self.messages.append(Message(content.decode() if self._is_text else bytes(content)))

    def _check_size(self, before: int, size: int) -> None:
        if 0 < self._max_size < before + size:
            from websockets.exceptions import PayloadTooBig

            raise PayloadTooBig(size, self._max_size - before)

    def forget(self) -> None:
        """Let go of the messages, and of the compressors."""
        self.messages.clear()
        self._content = self._utf8 = self._deflate = None

    def _refuse_end_of_stream(self) -> None:
        """Refuse DEFLATE's last block (RFC 7692 §7.2.3.4), which is legal, but hardly anybody sends it.

        zlib has finished then: all that follows would be empty messages to it, and their bytes be kept for ever.
        """
        decoder = getattr(self._deflate, "decoder", None)  # there is none between messages without a common context
        if decoder is not None and decoder.eof:
            from websockets.exceptions import ProtocolError

            raise ProtocolError("end of the compressed stream")
