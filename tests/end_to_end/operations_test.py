"""What an operator does: the commands, their exit codes and JSON, rollback, retention, restart, shutdown."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import STOP_SECONDS, Server
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire, chunk_of
from tools import python_cases

MIB = 1 << 20
KIB = 1 << 10
# So long that a server which ends did not just wait it out, and that none gives up on who is at work on a busy machine.
LONG_DRAIN = "--drain-seconds=600"


class OperationsTest(EndToEndTest):
    """Versions that are easy to tell apart: number N has N + 1 tensors."""

    def tensors(self, version: int) -> list[Tensor]:
        rng = np.random.default_rng(version)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (100 + i, 8)) for i in range(version + 1)]

    def source(self, version: int) -> Path:
        path = self.folder / f"version-{version}.safetensors"
        return path if path.exists() else write_safetensors(path, self.tensors(version))

    def push_version(self, server: Server, version: int, model: str = "model") -> Any:
        return self.push(self.source(version), server.address, model, f"--version={version}").json

    def model_state(self, server: Server, model: str = "model") -> Any:
        outcome = self.weightstream("status", f"--to={server.address}", f"--model={model}")
        (state,) = outcome.json["servers"][0]["models"]
        return state

    def held(self, server: Server) -> list[int]:
        """The versions in the folder."""
        return sorted(int(entry.name) for entry in (server.data_dir / "model").iterdir() if entry.name.isdigit())


class SpareArenas(OperationsTest):
    """On shared memory, which the data directory of these tests lies on unless they say otherwise."""

    def spares(self, server: Server) -> list[Path]:
        return sorted((server.data_dir / "model").glob(".spare-*/model.safetensors"))

    def push_same_shape(self, server: Server, version: int, tensor: Tensor) -> None:
        source = write_safetensors(self.folder / f"same-{version}.safetensors", [tensor])
        self.push(source, server.address, "model", f"--version={version}")

    def wait_until_prepared(self, server: Server, least_bytes: int) -> None:
        wait_until(lambda: self.model_state(server)["prepared_bytes"] >= least_bytes, "memory for the next version")

    def test_the_next_version_lands_in_memory_made_ready_and_the_one_before_stays_as_it_was(self) -> None:
        server = self.start_server()
        rng = np.random.default_rng(1)
        tensors = {version: random_tensor(rng, "w", "BF16", (3 * MIB, 2)) for version in (1, 2, 3)}
        self.push_same_shape(server, 1, tensors[1])
        for version in (2, 3):
            self.wait_until_prepared(server, 12 * MIB)
            (spare,) = self.spares(server)
            inode = spare.stat().st_ino
            with self.open_version(server.data_dir, "model") as before:
                self.push_same_shape(server, version, tensors[version])
                current = server.data_dir / "model" / str(version) / "model.safetensors"
                self.assertEqual(current.stat().st_ino, inode)
                self.assert_current(server, "model", [tensors[version]])
                self.assert_holds(before, [tensors[version - 1]])

    def test_a_killed_server_leaves_a_spare_that_the_next_one_removes(self) -> None:
        server = self.start_server()
        self.push_version(server, 1)
        wait_until(lambda: bool(self.spares(server)), "a spare arena")
        server.kill()
        self.assertTrue(self.spares(server))
        again = self.start_server(data_dir=server.data_dir)
        self.assertEqual(self.spares(again), [])
        self.assert_current(again, "model", self.tensors(1))

    def test_turned_off_there_is_none(self) -> None:
        server = self.start_server("--spare-arenas=false")
        self.push_version(server, 1)
        self.push_version(server, 2)
        self.assertEqual(self.spares(server), [])
        self.assertEqual(self.model_state(server)["prepared_bytes"], 0)


class Commands(OperationsTest):
    def test_push_chooses_the_next_version_and_reports(self) -> None:
        server = self.start_server()
        self.push_version(server, 7)
        report = self.push(self.source(2), server.address, "model").json
        self.assertEqual((report["model"], report["version"], report["tensors"]), ("model", 8, 3))
        self.assertEqual((report["total_bytes"], report["committed_servers"]), (16 * 303, 1))
        (outcome,) = report["servers"]
        self.assertEqual((outcome["server"], outcome["ok"], outcome["resumed_bytes"]), (server.address, True, 0))
        self.assertEqual(outcome["path"], str(server.data_dir / "model" / "8" / "model.safetensors"))
        for seconds in ("begin_seconds", "send_seconds", "commit_seconds"):
            self.assertGreaterEqual(outcome[seconds], 0)

    def test_push_to_two_servers_commits_on_both(self) -> None:
        servers = [self.start_server(data_dir=self.data_dir(name)) for name in ("one", "two")]
        self.push(self.source(1), ",".join(server.address for server in servers), "model")
        for server in servers:
            self.assert_current(server, "model", self.tensors(1))

    def test_push_to_a_dead_server_commits_nowhere_unless_allowed(self) -> None:
        alive, dead = self.start_server(), self.reserve_address()
        both = f"{alive.address},{dead}"
        flags = ("--version=1", "--connect-seconds=2")
        outcome = self.push(self.source(1), both, "model", *flags, code=1)
        self.assertIn("UNAVAILABLE", outcome.error)
        self.assertIn(dead, outcome.stderr)
        self.assertFalse((alive.data_dir / "model" / "current").exists())
        self.assert_no_partial_files(alive)
        outcome = self.push(self.source(1), both, "model", *flags, "--allow-partial", code=1)
        self.assertEqual(outcome.json["committed_servers"], 1)
        self.assert_current(alive, "model", self.tensors(1))

    def test_status_and_rollback_wait_for_a_port_that_is_mute_as_long_as_they_are_told(self) -> None:
        # Connections are accepted, by the kernel, and nobody ever says a word.
        with socket.create_server(("127.0.0.1", 0)) as mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
            for command in (["status"], ["status", "--model=model"], ["rollback", "--model=model", "--version=1"]):
                with self.subTest(command=command):
                    patient = self.start_command(*command, f"--to={address}", "--connect-seconds=100")
                    outcome = self.weightstream(*command, f"--to={address}", "--connect-seconds=1", code=1)
                    self.assertEqual(outcome.json["error"]["code"], "UNAVAILABLE")
                    self.assertIn(address, outcome.error)
                    self.assertTrue(patient.running(), patient.log())
                    patient.kill()

    def test_push_of_a_version_that_is_committed(self) -> None:
        server = self.start_server()
        self.push_version(server, 3)
        again = self.push(self.source(3), server.address, "model", "--version=3", code=1)
        self.assertIn("ALREADY_EXISTS", again.error)
        older = self.push(self.source(2), server.address, "model", "--version=2", code=1)
        self.assertIn("FAILED_PRECONDITION", older.error)
        self.assert_current(server, "model", self.tensors(3))

    def test_verify_tells_a_difference_of_one_bit(self) -> None:
        server = self.start_server()
        self.push_version(server, 3)
        good = self.weightstream("verify", self.source(3), f"--to={server.address}", "--model=model").json
        self.assertEqual((good["equal"], good["tensors"], good["version"]), (True, 4, 3))
        tensors = self.tensors(3)
        data = bytearray(tensors[2].data)
        data[-1] ^= 0x80
        tensors[2] = Tensor("tensor.2", "BF16", (102, 8), bytes(data))
        other = write_safetensors(self.folder / "other.safetensors", tensors)
        bad = self.weightstream("verify", other, f"--to={server.address}", "--model=model", code=1)
        self.assertEqual((bad.json["equal"], bad.json["differing_tensors"]), (False, 1))
        self.assertEqual([difference["tensor"] for difference in bad.json["differences"]], ["tensor.2"])
        self.assertIn("DATA_LOSS", bad.error)

    def test_verify_tells_tensors_that_only_one_side_has(self) -> None:
        server = self.start_server()
        self.push_version(server, 3)
        flags = (f"--to={server.address}", "--model=model")
        fewer = self.weightstream("verify", self.source(2), *flags, code=1).json
        self.assertEqual([d["tensor"] for d in fewer["differences"] if d["tensor"] == "tensor.3"], ["tensor.3"])
        self.assertFalse(fewer["equal"])

    def test_pull_of_the_current_and_of_an_earlier_version(self) -> None:
        server = self.start_server()
        for version in (1, 2):
            self.push_version(server, version)
        for version, flags in ((2, ()), (1, ("--version=1",))):
            out = self.folder / f"out-{version}"
            arguments = ("pull", f"--from={server.address}", "--model=model", f"--out={out}", *flags)
            report = self.weightstream(*arguments).json
            self.assertEqual((report["version"], report["tensors"]), (version, version + 1))
            self.assertEqual(report["path"], str(out / "model.safetensors"))
            with SafetensorsFile(out / "model.safetensors") as file:
                self.assert_holds(file, self.tensors(version))
            self.assertEqual([path.name for path in out.iterdir()], ["model.safetensors"])

    def test_a_failed_pull_leaves_nothing(self) -> None:
        server = self.start_server()
        out = self.folder / "out"
        flags = (f"--from={server.address}", f"--out={out}")
        self.assertIn("NOT_FOUND", self.weightstream("pull", "--model=nobody", *flags, code=1).error)
        self.push_version(server, 1)
        outcome = self.weightstream("pull", "--model=model", "--version=9", *flags, code=1)
        self.assertIn("NOT_FOUND", outcome.error)
        self.assertEqual(list(out.iterdir()) if out.exists() else [], [])

    def test_status_of_everything_and_of_one_model(self) -> None:
        server = self.start_server()
        empty = self.weightstream("status", f"--to={server.address}").json
        told = {"server": server.address, "ok": True, "device": "host", "device_error": "", "models": []}
        self.assertEqual(empty["servers"], [told])
        for model in ("beta", "alpha"):
            self.push_version(server, 1, model)
        names = [m["name"] for m in self.weightstream("status", f"--to={server.address}").json["servers"][0]["models"]]
        self.assertEqual(names, ["alpha", "beta"])
        state = self.model_state(server, "alpha")
        self.assertEqual((state["current_version"], state["highest_version"]), (1, 1))
        (version,) = state["versions"]
        self.assertEqual((version["version"], version["total_bytes"], version["tensors"]), (1, 16 * 201, 2))
        self.assertRegex(version["commit_time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        (update,) = state["updates"]
        self.assertEqual((update["state"], update["percent"], update["open_streams"]), ("committed", 100, 0))
        missing = self.weightstream("status", f"--to={server.address}", "--model=nobody", code=1)
        self.assertIn("NOT_FOUND", missing.error)

    def test_watch_sees_a_version_come_and_ends_with_it(self) -> None:
        server = self.start_server()
        flags = (f"--to={server.address}", "--model=model", "--until-version=2", "--timeout-seconds=60")
        watch = self.start_command("watch", *flags)
        wait_until(lambda: '"current"' in watch.stdout(), "watch shows the model as it is")
        for version in (1, 2):
            self.push_version(server, version)
        outcome = watch.outcome(60)
        self.assertEqual(outcome.code, 0, outcome.stderr)
        events = [json.loads(line) for line in outcome.stdout.splitlines()[:-1]]
        current = [event["version"] for event in events if event["state"] == "current"]
        self.assertEqual((current[0], current[-1]), (0, 2))
        for key in ("time", "server", "model", "version", "landed_bytes", "total_bytes", "percent", "reason"):
            self.assertIn(key, events[-1])

    def test_watch_ends_at_its_time_and_at_a_servers_end(self) -> None:
        server = self.start_server(LONG_DRAIN, listen=self.reserve_address())
        flags = (f"--to={server.address}", "--model=model", "--until-version=2")
        late = self.weightstream("watch", *flags, "--timeout-seconds=1", code=1)
        self.assertIn("error", late.json)
        watch = self.start_command("watch", *flags, "--connect-seconds=5")
        wait_until(lambda: '"current"' in watch.stdout(), "watch shows the model as it is")
        server.stop()
        self.assertEqual(watch.outcome().code, 1)

    def test_bad_usage_ends_with_2_and_names_what_is_wrong(self) -> None:
        to, model = "--to=127.0.0.1:1", "--model=model"
        for arguments, word in (
            (("push",), "PATH"),
            (("push", "path", model), "--to"),
            (("push", "path", to), "--model"),
            (("push", "path", to, "--model=../x"), "model"),
            (("push", "path", to, model, "--version=0"), "--version"),
            (("push", "path", to, model, "--version=-1"), "--version"),
            (("push", "path", to, model, "--connections=none"), "--connections"),
            (("push", "path", to, model, "--bucket-mib=1", "--bucket-bytes=1"), "--bucket"),
            (("push", "path", "second", to, model), "second"),
            (("push", "path", "--to=nonsense", model), "nonsense"),
            (("status", to, "--nonsense"), "--nonsense"),
            (("watch", to, "--until-version=1"), "--model"),
            (("pull", "--from=127.0.0.1:1", model), "--out"),
            (("rollback", to, model), "--version"),
            (("fly", to), "fly"),
        ):
            with self.subTest(arguments=arguments):
                outcome = self.weightstream(*arguments, code=2)
                self.assertIn(word, outcome.stderr)
                self.assertEqual(outcome.json["error"]["code"], "INVALID_ARGUMENT")

    def test_help_of_each_command(self) -> None:
        for command in ("push", "status", "watch", "pull", "verify", "rollback"):
            started = self.start_command(command, "--help")
            self.assertEqual(started.wait(30), 0)
            self.assertIn(f"weightstream {command}", started.stdout())


class Versions(OperationsTest):
    def test_rollback_and_forward_again(self) -> None:
        server = self.start_server()
        for version in (1, 2):
            self.push_version(server, version)
        flags = (f"--to={server.address}", "--model=model")
        report = self.weightstream("rollback", *flags, "--version=1").json
        self.assertEqual((report["version"], report["previous_version"]), (1, 2))
        self.assertEqual(report["state"]["current_version"], 1)
        self.assert_current(server, "model", self.tensors(1))
        # It outlives a crash.
        server.kill()
        server = self.start_server()
        self.assertEqual(self.model_state(server)["current_version"], 1)
        flags = (f"--to={server.address}", "--model=model")
        self.weightstream("rollback", *flags, "--version=2")
        self.assert_current(server, "model", self.tensors(2))
        outcome = self.weightstream("rollback", *flags, "--version=9", code=1)
        self.assertIn("NOT_FOUND", outcome.error)
        self.assertIn("it holds 1, 2", outcome.error)

    def test_old_versions_go_and_the_current_one_stays(self) -> None:
        server = self.start_server("--keep-versions=3")
        for version in range(1, 6):
            self.push_version(server, version)
        self.assertEqual(self.held(server), [3, 4, 5])
        self.weightstream("rollback", f"--to={server.address}", "--model=model", "--version=3")
        for version in (6, 7):
            self.push_version(server, version)
            self.assert_current(server, "model", self.tensors(version))
        self.assertEqual([v["version"] for v in self.model_state(server)["versions"]], self.held(server))
        self.assertEqual(len(self.held(server)), 3)

    def test_a_mapped_version_stays_as_it_was(self) -> None:
        for on_disk in (False, True):
            with self.subTest(on_disk=on_disk):
                data_dir = self.data_dir(f"data-{on_disk}", on_disk)
                server = self.start_server("--keep-versions=1", data_dir=data_dir)
                self.push_version(server, 1)
                with self.open_version(data_dir, "model") as first:
                    for version in (2, 3, 4):
                        self.push_version(server, version)
                        self.assert_holds(first, self.tensors(1))
                    self.assertEqual(self.held(server), [4])
                    self.assert_current(server, "model", self.tensors(4))
                    self.assert_holds(first, self.tensors(1))

    def test_a_restart_serves_what_was_committed(self) -> None:
        server = self.start_server()
        for version in (1, 2):
            self.push_version(server, version)
        before = self.model_state(server)["versions"]
        server.stop()
        server = self.start_server()
        state = self.model_state(server)
        self.assertEqual((state["current_version"], state["versions"]), (2, before))
        self.weightstream("verify", self.source(1), f"--to={server.address}", "--model=model", "--version=1")
        self.assertEqual(self.push(self.source(3), server.address, "model").json["version"], 3)

    def test_what_is_not_ours_in_the_data_directory_is_left_alone(self) -> None:
        data_dir = self.data_dir()
        data_dir.mkdir()
        for name in (".hidden", "README with spaces"):
            (data_dir / name).write_text("not ours")
        server = self.start_server()
        self.push_version(server, 1)
        server.stop()
        self.start_server().stop()
        for name in (".hidden", "README with spaces"):
            self.assertEqual((data_dir / name).read_text(), "not ours")
            (data_dir / name).unlink()


class Shutdown(OperationsTest):
    def setUp(self) -> None:
        super().setUp()
        self.tensor = random_tensor(np.random.default_rng(0), "tensor", "U8", (64 * KIB,))

    def test_sigterm_lets_an_update_in_flight_finish(self) -> None:
        server = self.start_server(LONG_DRAIN)
        with Wire(server.address) as wire:
            update = wire.begin("model", 1, [self.tensor])
            wire.push(update.update_id, [chunk_of(self.tensor, 0, 1000)])
            server.signal(signal.SIGTERM)
            wait_until(lambda: "shutting_down" in server.log(), "the server begins to shut down")
            wait_until(lambda: self.refuses_to_begin(wire), "new updates are refused")
            wire.push(update.update_id, [chunk_of(self.tensor, 1000)])
            self.assertEqual(wire.commit("model", update.update_id).version, 1)
        self.assertEqual(server.wait(STOP_SECONDS), 0)
        self.assert_current(server, "model", [self.tensor])

    def refuses_to_begin(self, wire: Wire) -> bool:
        """Whether the server has come so far that it does; an update that began all the same is ended again."""
        try:
            update = wire.begin("other", 1)
        except grpc.RpcError as error:
            raised: Any = error
            self.assertEqual(raised.code(), grpc.StatusCode.UNAVAILABLE, raised.details())
            self.assertIn("shutting down", raised.details())
            return True
        wire.abort("other", update.update_id)
        return False

    def test_sigterm_does_not_wait_for_ever(self) -> None:
        server = self.start_server("--drain-seconds=1")
        with Wire(server.address) as wire:
            update = wire.begin("model", 1, [self.tensor])
            wire.push(update.update_id, [chunk_of(self.tensor, 0, 1000)])
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(STOP_SECONDS), 0)
        self.assertEqual(list((server.data_dir / "model").iterdir()), [])

    def test_sigterm_after_large_replies_does_not_linger(self) -> None:
        server = self.start_server()
        large = random_tensor(np.random.default_rng(0), "large", "U8", (32 * MIB,))
        self.push(write_safetensors(self.folder / "large.safetensors", [large]), server.address, "model")
        # gRPC polls for ten seconds on behalf of a write that had to wait, which not every reply does.
        for _ in range(4):
            self.weightstream("pull", f"--from={server.address}", "--model=model", f"--out={self.folder / 'out'}")
        server.stop(seconds=9)

    def test_a_second_signal_ends_it_at_once(self) -> None:
        server = self.start_server(LONG_DRAIN)
        with Wire(server.address) as wire:
            wire.begin("model", 1, [self.tensor])
            server.signal(signal.SIGTERM)
            wait_until(lambda: "shutting_down" in server.log(), "the server begins to shut down")
            server.signal(signal.SIGINT)
            self.assertEqual(server.wait(STOP_SECONDS), -signal.SIGINT)
        self.start_server()  # Clears what was left.

    def test_a_command_that_is_at_work_finishes(self) -> None:
        server = self.start_server(LONG_DRAIN)
        large = random_tensor(np.random.default_rng(0), "large", "U8", (32 * MIB,))
        source = write_safetensors(self.folder / "large.safetensors", [large])
        proxy = self.start_proxy(server, 8 * MIB)
        # Small chunks, so that some are whole though the proxy looks far away, and several streams share what may pass.
        command = self.start_command("push", source, f"--to={proxy.address}", "--model=model", "--bucket-mib=0.25")
        self.await_landed(server, "model")
        server.signal(signal.SIGTERM)
        wait_until(lambda: "shutting_down" in server.log(), "the server begins to shut down")
        proxy.allow(None)
        self.assertEqual(command.outcome().code, 0, command.log())
        self.assertEqual(server.wait(STOP_SECONDS), 0)
        self.assert_current(server, "model", [large])


if __name__ == "__main__":
    python_cases.main()
