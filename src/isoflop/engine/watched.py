"""An engine whose every call is a sign of life."""

from collections.abc import Callable
from typing import Any, cast

from isoflop.data.loader import Batch
from isoflop.engine.base import Accept, Engine, StepResult
from isoflop.monitor.watchdog import PATIENCE, Watchdog


class Watched:
    """`engine` after `step` steps, with `watchdog` told what it does and how long that may take."""

    def __init__(self, engine: Engine, watchdog: Watchdog, step: int) -> None:
        self._engine, self._watchdog, self._step = engine, watchdog, step
        self._patience = PATIENCE  # until the first step is done: it compiles

    def train_step(self, batch: Batch, n_targets: int, lr: float, accept: Accept) -> StepResult:
        self._step += 1
        self._watchdog.alive(f"step {self._step}", self._patience)
        result = self._engine.train_step(batch, n_targets, lr, accept)
        self._patience = 1.0
        self._watchdog.alive(f"after step {self._step}")
        return result

    def state(self) -> dict[str, Any]:
        self._watchdog.alive(f"the checkpoint of step {self._step}", PATIENCE)
        return self._engine.state()

    def __getattr__(self, name: str) -> Any:
        """The rest of an engine, each call before which counts too."""
        found = getattr(self._engine, name)
        return self._told(found) if callable(found) else found

    def _told(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any, **named: Any) -> Any:
            self._watchdog.alive(f"after step {self._step}")
            return call(*arguments, **named)

        return told


def watched(engine: Engine, watchdog: Watchdog, step: int) -> Engine:
    """`engine`, which has come to `step`, under the eyes of `watchdog`."""
    return cast(Engine, Watched(engine, watchdog, step))
