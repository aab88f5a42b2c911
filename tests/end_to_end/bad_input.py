"""What every test of bad input starts from and ends with: a server that goes on, and a committed version untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.end_to_end.checkpoints import random_tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.wire import Wire

SEED = 666


class BadInputTest(EndToEndTest):
    """A server that holds a committed version of "kept" and takes chunks of at most a MiB."""

    server_flags: Sequence[str] = ()

    def setUp(self) -> None:
        super().setUp()
        self.rng = np.random.default_rng(SEED)
        self.kept = [random_tensor(self.rng, "kept", "F32", (1000,)), random_tensor(self.rng, "also", "BF16", (77,))]
        self.server = self.start_server("--bucket-mib=1", *self.server_flags)
        self.wire = Wire(self.server.address)
        self.addCleanup(self.wire.close)
        self.addCleanup(self._check_server_goes_on)
        self.wire.push_all("kept", 1, self.kept)

    def _check_server_goes_on(self) -> None:
        """The same process has the same version, bit for bit, and takes the next one."""
        self.assertTrue(self.server.running(), self.server.log())
        with self.open_version(self.server.data_dir, "kept", 1) as file:
            self.assert_holds(file, self.kept)
        state = self.wire.model("kept")
        self.assertEqual(state.current_version, 1)
        self.wire.push_all("kept", 2, self.kept[:1])
        self.assert_current(self.server, "kept", self.kept[:1])
