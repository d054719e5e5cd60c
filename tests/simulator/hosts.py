"""The executors of the world: the real ledger, streams and performer over scripted models and tools."""

from collections.abc import Callable

from executor.ledger import Ledger
from executor.servicer import Executor, Identity
from tests.simulator.loop import Life, SimLoop
from tests.simulator.network import Network
from tests.simulator.script import Script, ScriptedPerformer


class ExecutorHost:
    """One address, and the instance that lives there now."""

    def __init__(
        self, loop: SimLoop, network: Network, script: Script, new_id: Callable[[], str], address: str, slots: int
    ) -> None:
        self.address = address
        self._loop, self._network, self._script, self._new_id, self._slots = loop, network, script, new_id, slots
        self._instances = 0
        network.hosts[address] = self
        self.start()

    def start(self) -> None:
        """A new instance, which knows nothing of the one before."""
        self._instances += 1
        self.node = self._loop.node(f"{self.address}#{self._instances}")
        self.instance_id = self._new_id()
        performer = ScriptedPerformer(self._script)
        self.ledger = Ledger(self.instance_id, self._slots, performer)
        self.servicer = Executor(Identity(self.instance_id, self.address, "sim"), self.ledger, performer)
        self.node.spawn(self.servicer.tick())

    def crash(self) -> None:
        self.node.life = Life.DEAD
        self._network.cut(node=self.node)

    def stop_for_a_while(self) -> None:
        if self.node.life is Life.RUNS:
            self.node.life = Life.STANDS

    def go_on(self) -> None:
        if self.node.life is Life.STANDS:
            self.node.life = Life.RUNS
