"""What TLS costs: the same push, encrypted and not, by connections."""

from __future__ import annotations

import contextlib

from tests.bench.contenders import Baseline, Settings, Work, push, server, standing_servers_case
from tests.bench.rate import ARENA_NOTE
from tests.bench.rounds import Case, Section, interleave
from tests.end_to_end.certificates import Ca


def sent_mib(settings: Settings) -> int:
    return max(1, settings.total_mib // 2)


def run(settings: Settings) -> list[Section]:
    section = Section("tls", f"Encrypted and not, one tensor of {sent_mib(settings)} MiB", notes=[ARENA_NOTE])
    folder = settings.new_path("certificates")
    folder.mkdir()
    ca = Ca(folder, "bench")
    pair = ca.sign("server")
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(Baseline("tcp", settings)).warmed_up()
        plain = stack.enter_context(server(settings))
        encrypted = stack.enter_context(server(settings, f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}"))
        push(settings, [plain], Work(sent_mib(settings), 2))
        push(settings, [encrypted], Work(sent_mib(settings), 2, tls_ca=ca.certificate))
        cases: list[Case] = []
        for connections in settings.connections:
            work = Work(sent_mib(settings), connections)
            over_tls = Work(sent_mib(settings), connections, tls_ca=ca.certificate)
            cases += [
                tcp.case(sent_mib(settings), connections),
                standing_servers_case(settings, "weightstream", [plain], work),
                standing_servers_case(settings, "weightstream tls", [encrypted], over_tls),
            ]
        section.rows = interleave(section.name, settings.rounds, cases)
    return [section]
