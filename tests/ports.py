#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP port for a server that a test starts, below the kernel's ephemeral ports.

An ephemeral port that a test found free, or that its server gives up for a restart, may become the
source of anybody's connection: even of one to that very port, which then is connected to itself and
keeps the server from coming back. Programs that run side by side take turns by a counter in a file
(free_port.c and lin/main.go do the same).
"""
import fcntl
import os
import socket

COUNTER = "/tmp/kinglet-test-ports"
FIRST, LAST = 12000, 31999


def free_port():
    try:
        fd = os.open(COUNTER, os.O_RDWR)
    except FileNotFoundError:
        fd = os.open(COUNTER, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(fd, "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        port = int(f.read() or FIRST)
        while True:
            port = port + 1 if FIRST <= port < LAST else FIRST
            with socket.socket() as s:
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            f.seek(0)
            f.write(f"{port:05}")
            return port


if __name__ == "__main__":
    print(free_port())
