"""A TCP proxy that does worse than to stop or cut: it flips bits, and it loses the reply to a call."""

from __future__ import annotations

import random
import re
import socket
import threading

from tests.end_to_end.proxy import BLOCK_BYTES, Proxy


class FaultyProxy(Proxy):
    """Forwards to `target`, unless it was told to do harm. Harm is drawn from the generator that it is given."""

    def __init__(self, target: str) -> None:
        self._harm = threading.Lock()
        self._flips_left = 0
        self._flip_within = 0
        self._until_flip = 0
        self._aim = b""
        self._random = random.Random(0)
        self._swallowed_call = b""
        self.flipped_bits = 0
        # Connections on which a reply was lost.
        self.swallowed_replies = 0
        # The clients' ends of connections on which nothing comes back any more.
        self._mute: set[socket.socket] = set()
        self._running = threading.Event()
        self._running.set()
        # How often connections were cut: what one of them held at that moment is lost, not passed on later.
        self._cuts = 0
        super().__init__(target)

    def flip_bits(self, rng: random.Random, count: int, within_bytes: int, aim: bytes = b"") -> None:
        """Flips that many bits, each up to so many bytes after the one before, in whatever passes, both ways.

        With an aim: only within so many bytes after one of its occurrences.
        """
        with self._harm:
            self._random, self._flips_left, self._flip_within, self._aim = rng, count, within_bytes, aim
            self._until_flip = rng.randrange(within_bytes)

    def swallow_reply(self, method: str) -> None:
        """Loses all that comes back on the next connection that calls this method, from the call on."""
        with self._harm:
            self._swallowed_call = f"/{method}".encode()

    def stop(self) -> None:
        """No byte passes, either way, until go()."""
        self._running.clear()

    def go(self) -> None:
        self._running.set()

    def cut(self) -> int:
        with self._harm:
            self._cuts += 1
        return super().cut()

    def behave(self) -> None:
        """No more harm."""
        with self._harm:
            self._flips_left, self._swallowed_call = 0, b""
        self.go()

    def close(self) -> None:
        self.behave()
        super().close()

    def _damage(self, data: bytearray) -> None:
        with self._harm:
            if self._aim:
                self._damage_near_aim(data)
                return
            at = 0
            while self._flips_left > 0 and at + self._until_flip < len(data):
                at += self._until_flip
                self._flip(data, at)
                self._until_flip = 1 + self._random.randrange(self._flip_within)
            if self._flips_left > 0:
                self._until_flip -= len(data) - at

    def _damage_near_aim(self, data: bytearray) -> None:
        """Once a block at most, so that the flips are spread over many messages."""
        places = [match.end() for match in re.finditer(re.escape(self._aim), data)]
        if places and self._flips_left > 0:
            at = self._random.choice(places) + self._random.randrange(self._flip_within)
            if at < len(data):
                self._flip(data, at)

    def _flip(self, data: bytearray, at: int) -> None:
        data[at] ^= 1 << self._random.randrange(8)
        self.flipped_bits += 1
        self._flips_left -= 1

    def _note_call(self, data: bytes, source: socket.socket) -> None:
        # gRPC spells a method out the first time that a connection calls it.
        with self._harm:
            if self._swallowed_call and self._swallowed_call in data:
                self._swallowed_call = b""
                self._mute.add(source)

    def _forward(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        tail, silenced, cuts = b"", False, self._cuts
        while block := source.recv(BLOCK_BYTES):
            self._running.wait()
            if self._cuts != cuts:
                return
            if limited:
                self._note_call(tail + block, source)
                tail = block[-64:]
            elif sink in self._mute:
                if not silenced:
                    self.swallowed_replies += 1
                silenced = True
                continue
            damaged = bytearray(block)
            self._damage(damaged)
            if not self._pass_on(damaged, sink, limited):
                return
