"""Messages between trainer and bridge: small pickles on a Unix socket, their arrays in anonymous shared memory.

Each message's arrays lie in one memory file of its own (memfd), 64-byte aligned, whose descriptor travels with the
message. So nothing is ever named in /dev/shm (which containers keep at 64 MB) and nothing is left behind by a
kill; and a buffer belongs to the arrays that were made from it, so it is never written again while one is alive.
The pickles come from the own other half, never from a disk.
"""

import io
import mmap
import os
import pickle
import socket
import struct
from typing import Any

import numpy as np

ALIGNMENT = 64  # what XLA asks of a buffer that it takes over without a copy
_HEADER = struct.Struct("<QQ?")  # bytes of the pickle, bytes of the arrays, whether a descriptor came along


def send(sock: socket.socket, message: Any) -> int:
    """Sends one message; returns its size in bytes. Callers on several threads hold a lock around it."""
    arrays: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=arrays.append).dump(message)
    views = [a.raw() for a in arrays]
    offsets, size = _layout([v.nbytes for v in views])
    body = pickle.dumps(([(o, v.nbytes) for o, v in zip(offsets, views, strict=True)], stream.getvalue()))
    header = _HEADER.pack(len(body), size, bool(size))
    if not size:
        sock.sendall(header + body)
        return len(body)
    file = os.memfd_create("genreward", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, size)
        with mmap.mmap(file, size) as memory:
            for offset, view in zip(offsets, views, strict=True):
                memory[offset : offset + view.nbytes] = view
        sent = socket.send_fds(sock, [header], [file])
    finally:
        os.close(file)
    sock.sendall(header[sent:] + body)
    return len(body) + size


def receive(sock: socket.socket) -> tuple[Any, int]:
    """Waits for one message; returns it and its size in bytes. Its arrays lie in the shared memory itself.

    Raises:
        EOFError: The other side is gone.
    """
    try:
        head, files, _, _ = socket.recv_fds(sock, _HEADER.size, 1, socket.MSG_CMSG_CLOEXEC)
        if not head:
            raise EOFError
        head += _exactly(sock, _HEADER.size - len(head))
        length, size, _ = _HEADER.unpack(head)
        layout, stream = pickle.loads(_exactly(sock, length))
    except (ConnectionError, BrokenPipeError) as error:
        raise EOFError from error
    if not size:
        return pickle.loads(stream), length
    try:
        memory = memoryview(mmap.mmap(files[0], size))
    finally:
        os.close(files[0])
    return pickle.loads(stream, buffers=[memory[o : o + n] for o, n in layout]), length + size


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _layout(sizes: list[int]) -> tuple[list[int], int]:
    """Aligned offsets of buffers one after the other, and the size of the whole."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end


class _Pickler(pickle.Pickler):
    """Writes arrays as (bytes elsewhere, dtype, shape): no NumPy internals, whose paths differ between versions."""

    def reducer_override(self, item: Any) -> Any:
        if type(item) is not np.ndarray or item.dtype.hasobject or item.dtype.names:
            return NotImplemented
        item = np.ascontiguousarray(item).reshape(item.shape)
        buffer = pickle.PickleBuffer(item.reshape(-1).view(np.uint8)) if item.size else b""
        return _array, (buffer, item.dtype.str, item.shape)


def _array(buffer: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape) if len(buffer) else np.empty(shape, dtype)
