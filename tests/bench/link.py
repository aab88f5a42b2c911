"""A long, lossy link instead of loopback: what is left of raw TCP's rate there."""

from __future__ import annotations

from pathlib import Path

from tests.bench import namespaces
from tests.bench.contenders import Baseline, Settings, Work, push_command, server
from tests.bench.namespaces import Link
from tests.bench.processes import BenchError, Receiver, run_round, run_watched_round
from tests.bench.rounds import MIB, Case, Label, Round, Section, interleave

CONNECTIONS = (2, 4, 8)
# What a round is to take, at most: some congestion controls get a hundredth of the link with this loss.
ROUND_SECONDS = 5.0
PROBE_MIB = 64
LEAST_MIB = 8
CLIENTS_CHOICE = "chosen by the client"
_ESTABLISHED = "01"


def run(settings: Settings) -> list[Section]:
    rtt, loss, rate = 2 * namespaces.DELAY_MS, namespaces.LOSS_PERCENT, namespaces.RATE_MBIT
    section = Section("link", f"A link of {rtt} ms RTT, {loss} % loss, {rate} Mbit/s")
    section.skipped = namespaces.unavailable()
    if section.skipped:
        return [section]
    with Link(settings) as link:
        section.notes = [f"made by {link.made_by}", *facts_of(link, section)]
        measure(settings, link, section)
    return [section]


def facts_of(link: Link, section: Section) -> list[str]:
    names = ("tcp_congestion_control", "tcp_rmem", "tcp_wmem")
    section.facts = {name: link.system_setting(f"net/ipv4/{name}") for name in names} | {"made_by": link.made_by}
    return [f"congestion control {section.facts['tcp_congestion_control']}"]


def measure(settings: Settings, link: Link, section: Section) -> None:
    address = namespaces.RECEIVER_ADDRESS
    with (
        Baseline("tcp", settings, at=link.at_sender, to=link.at_receiver, listen=address) as tcp,
        server(settings, prefix=link.at_receiver, listen=address) as receiver,
    ):
        chosen = clients_choice(settings, link, receiver, min(PROBE_MIB, settings.link_mib))
        cases: list[Case] = []
        for connections in sorted({*CONNECTIONS, chosen}):
            probed = tcp.send(min(PROBE_MIB, settings.link_mib), connections)
            total_mib = int(min(settings.link_mib, max(LEAST_MIB, probed.rate * 1e9 * ROUND_SECONDS / MIB)))
            cases.append(tcp.case(total_mib, connections))
            if connections in CONNECTIONS:
                cases.append(push_case(settings, link, receiver, Work(total_mib, connections), connections))
            if connections == chosen:
                cases.append(push_case(settings, link, receiver, Work(total_mib, 0), chosen, CLIENTS_CHOICE))
        section.rows = interleave(section.name, settings.rounds, cases)


def push_case(settings: Settings, link: Link, receiver: Receiver, work: Work, connections: int, note: str = "") -> Case:
    label = Label("weightstream", connections, work.total_mib, note=note)

    def run() -> list[tuple[Label, Round]]:
        command = [*link.at_sender, *push_command(settings, [receiver], work)]
        return [(label, run_round(command, [receiver], settings.new_path("push.log")))]

    return run


def clients_choice(settings: Settings, link: Link, receiver: Receiver, total_mib: int) -> int:
    """How many connections the client opens for data where it is not told."""
    command = [*link.at_sender, *push_command(settings, [receiver], Work(total_mib, 0))]
    port = int(receiver.address.rpartition(":")[2])
    log = settings.new_path("push.log")
    _, most = run_watched_round(command, [receiver], log, lambda pid: connections_to(pid, port))
    # One of them carries the other calls.
    if most < 2:
        raise BenchError("the client's connections could not be counted")
    return most - 1


def connections_to(pid: int, port: int) -> int:
    """Established connections to the port, from the network namespace of the process."""
    count = 0
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            count += int(fields[2].rpartition(":")[2], 16) == port and fields[3] == _ESTABLISHED
    return count
