"""What a person sees while `weightstream push` runs: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from pathlib import Path
from unittest import mock

import numpy as np

from tests.end_to_end.checkpoints import random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Process, binary
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.waiting import wait_until
from tools import python_cases

MIB = 1 << 20
ROWS = 24
COLUMNS = 80

_ESCAPE = re.compile(r"\x1b\[(\d*)([A-Z])")
_REPORT = r"{}: version 1, 32\.0 MiB in \S+, \S+ [kMG]?B/s"


class Screen:
    """What a terminal shows after the text was written to it; AssertionError for what it could not show."""

    def __init__(self, text: str) -> None:
        self.lines: list[str] = [""]
        self.row = self.column = 0
        at = 0
        while at < len(text):
            escape = _ESCAPE.match(text, at)
            if escape:
                self._obey(int(escape[1] or 1), escape[2])
                at = escape.end()
            else:
                self._write(text[at])
                at += 1

    def _obey(self, count: int, command: str) -> None:
        if command == "A":
            assert count <= self.row, "the cursor leaves the text"
            self.row -= count
        elif command == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        else:
            assert command == "J", f"an escape sequence nobody expects: {command}"
            self.lines[self.row :] = [self.lines[self.row][: self.column]]

    def _write(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        else:
            assert character.isprintable(), repr(character)
            assert self.column < COLUMNS, f"wider than the terminal: {self.lines[self.row]}"
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1


class TerminalProcess:
    """A process whose input, output and messages are a terminal of COLUMNS by ROWS."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            self._popen = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        finally:
            os.close(theirs)
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._written += os.read(self._ours, 4096)
            except OSError:  # EIO: nobody has the terminal open any more.
                return

    def written(self) -> str:
        return bytes(self._written).decode()

    def wait(self, seconds: float) -> int:
        """The exit code, once everything it wrote has been read."""
        code = self._popen.wait(seconds)
        self._reader.join(seconds)
        return code

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._reader.join()
        os.close(self._ours)


class TerminalTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        terminal = mock.patch.dict(os.environ, TERM="xterm")
        terminal.start()
        self.addCleanup(terminal.stop)
        tensor = random_tensor(np.random.default_rng(0), "tensor", "U8", (32 * MIB,))
        self.source = write_safetensors(self.folder / "model.safetensors", [tensor])

    def stalled_proxy(self) -> Proxy:
        """To a server, but it lets only a part of the weights through: a push stands still for as long as we look."""
        return self.start_proxy(self.start_server(), 12 * MIB)

    def push_command(self, proxy: Proxy, source: Path, model: str = "model") -> list[str]:
        # In messages so small, and over one connection, that several land before it stands still.
        flags = (f"--to={proxy.address}", f"--model={model}", "--connections=1", "--bucket-mib=0.25")
        return [binary("WEIGHTSTREAM"), "push", str(source), *flags]

    def test_a_standard_terminal_shows_a_bar_and_is_left_with_the_report(self) -> None:
        proxy = self.stalled_proxy()
        push = TerminalProcess(*self.push_command(proxy, self.source))
        self.addCleanup(push.kill)
        bar = re.compile(
            rf"{proxy.address} +sending +(\d+\.\d) % +\[(=*>? *)\] +(\d+\.\d)/32\.0 MiB +\d\S* [kM]?B/s +\S+ left"
        )
        shown = wait_until(lambda: bar.search(push.written()), "a bar with every figure")
        assert shown is not None
        self.assertLess(float(shown[1]), 100)
        self.assertLessEqual(float(shown[3]), 16)
        self.assertGreaterEqual(len(shown[2]), 3)
        proxy.allow(None)
        self.assertEqual(push.wait(60), 0, push.written())
        screen = Screen(push.written())
        self.assertEqual(len(screen.lines), 2, screen.lines)
        self.assertRegex(screen.lines[0], rf"\A{_REPORT.format(proxy.address)}\Z")
        self.assertEqual((screen.lines[1], screen.row, screen.column), ("", 1, 0))

    def test_watch_redraws_a_table_and_leaves_what_happened(self) -> None:
        # Both pushes are held until their row is seen: a watch is told of states, and of short ones not of each.
        servers = [self.start_server(data_dir=self.data_dir(name)) for name in ("one", "other")]
        proxies = [self.start_proxy(server, 12 * MIB) for server in servers]
        addresses = [server.address for server in servers]
        watch = TerminalProcess(
            *(binary("WEIGHTSTREAM"), "watch", f"--to={','.join(addresses)}", "--model=model", "--until-version=1")
        )
        self.addCleanup(watch.kill)
        wait_until(lambda: "model on 2 servers: 2 empty" in watch.written(), "the table of what is there")
        self.push_while_watched(watch, addresses[0], proxies[0])
        self.await_written(watch, rf"{addresses[0]} +current 1\b")
        self.push_while_watched(watch, addresses[1], proxies[1])
        self.assertEqual(watch.wait(60), 0, watch.written())
        *lines, last = Screen(watch.written()).lines
        self.assertEqual(last, "")
        told = [re.sub(r"\A\d\d:\d\d:\d\d  ", "", line) for line in lines]
        for number, address in enumerate(addresses):
            mine = [line for line in told if line.startswith(f"{address}  model  ")]
            self.assertRegex(mine[0], r"  receiving  version 1  \d+\.\d % of 32\.0 MiB\b")
            self.assertRegex(mine[1], r"  current  version 1  32\.0 MiB\Z")
            self.assertEqual(len(mine), 2, told[number])
        self.assertEqual(len(told), 4, told)

    def push_while_watched(self, watch: TerminalProcess, address: str, proxy: Proxy) -> None:
        """A push that stands still until its row, with phase, progress, rate and time left, is seen."""
        log, out = self.folder / f"push-{proxy.address}.log", self.folder / f"out-{proxy.address}"
        push = Process("push", self.push_command(proxy, self.source), log, out)
        self.addCleanup(push.kill)
        row = rf"{address} +receiving 1 +\d+\.\d % +\[=*>? *\] +\d+\.\d/32\.0 MiB +\d\S* [kM]?B/s +\S+ left"
        self.await_written(watch, row)
        proxy.allow(None)
        self.assertEqual(push.wait(60), 0, push.log())

    def await_written(self, process: TerminalProcess, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, process.written()), pattern)

    def test_watch_tells_one_model_on_several_servers_apart(self) -> None:
        model = "llama-70b-actor"
        servers = [self.start_server(data_dir=self.data_dir(name)) for name in ("one", "two")]
        proxies = [self.start_proxy(server, 12 * MIB) for server in servers]
        addresses = [server.address for server in servers]
        watch = TerminalProcess(binary("WEIGHTSTREAM"), "watch", f"--to={','.join(addresses)}", "--timeout-seconds=60")
        self.addCleanup(watch.kill)
        wait_until(lambda: "2 servers: 2 empty" in watch.written(), "the table of what is there")
        pushes = []
        for number, proxy in enumerate(proxies):
            command = self.push_command(proxy, self.source, model)
            log, out = self.folder / f"push-{number}.log", self.folder / f"out-{number}"
            pushes.append(Process("push", command, log, out))
            self.addCleanup(pushes[-1].kill)
        for address in addresses:
            self.await_written(watch, rf"{address} {model} receiving 1 +\d+\.\d % ")
        for proxy, push in zip(proxies, pushes, strict=True):
            proxy.allow(None)
            self.assertEqual(push.wait(60), 0, push.log())
        for address in addresses:
            self.await_written(watch, rf"{address} +{model} +current 1\b")

    def test_status_of_a_model_fits(self) -> None:
        server = self.start_server(data_dir=self.data_dir("a-folder-with-a-long-name-for-its-models"))
        self.push(self.source, server.address, "llama-70b-actor")
        status = TerminalProcess(binary("WEIGHTSTREAM"), "status", f"--to={server.address}", "--model=llama-70b-actor")
        self.addCleanup(status.kill)
        self.assertEqual(status.wait(60), 0, status.written())
        lines = status.written().replace("\r", "").split("\n")
        path = f"  {server.data_dir / 'llama-70b-actor' / '1' / 'model.safetensors'}"
        self.assertIn(path, lines)
        lines.remove(path)
        self.assertLess(max(map(len, lines)), COLUMNS)

    def test_status_of_several_servers_is_a_table_that_fits(self) -> None:
        servers = [
            self.start_server(data_dir=self.data_dir(f"data-{number}"), listen=self.reserve_address())
            for number in range(3)
        ]
        self.push(self.source, ",".join(server.address for server in servers[:2]), "model")
        servers[1].stop()
        listed = ",".join(server.address for server in servers)
        status = TerminalProcess(binary("WEIGHTSTREAM"), "status", f"--to={listed}")
        self.addCleanup(status.kill)
        self.assertEqual(status.wait(60), 1, status.written())
        # The error itself goes to stderr, in a line as long as it is.
        *lines, error, _ = status.written().replace("\r", "").split("\n")
        text = "\n".join(line for line in [*lines, error] if not line.startswith("weightstream: "))
        self.assertLess(max(map(len, text.split("\n"))), COLUMNS)
        self.assertRegex(text, r"(?m)^SERVER +MODEL +CURRENT +HELD +BYTES +AGE$")
        self.assertRegex(text, rf"(?m)^{servers[0].address} +model +1 +1 +32\.0 MiB +\S+$")
        self.assertRegex(text, rf"(?m)^{servers[1].address} +UNAVAILABLE$")
        self.assertRegex(text, rf"(?m)^{servers[2].address} +no models, device host$")

    def test_a_log_gets_lines_without_control_characters(self) -> None:
        proxy = self.stalled_proxy()
        out = self.folder / "push.out"
        push = Process("weightstream push", self.push_command(proxy, self.source), self.folder / "push.log", out)
        self.addCleanup(push.kill)
        line = re.compile(rf"^{proxy.address}: sending \(version 1\), \d+\.\d % of 32\.0 MiB\b.*$", re.MULTILINE)
        wait_until(lambda: line.search(push.log()), "a line that says how far it is")
        proxy.allow(None)
        self.assertEqual(push.wait(60), 0, push.log())
        self.assertRegex(out.read_text(), rf"\A{_REPORT.format(proxy.address)}\n\Z")
        for text in (out.read_text(), push.log()):
            self.assertTrue(text.endswith("\n"), repr(text))
            self.assertTrue(text.replace("\n", "").isprintable(), repr(text))


if __name__ == "__main__":
    python_cases.main()
