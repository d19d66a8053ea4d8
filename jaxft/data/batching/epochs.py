"""The plans of a run's epochs, one after the other, each made beside the steps of the one before."""

from concurrent.futures import Future, ThreadPoolExecutor

from jaxft.data.batching.epoch_plan import EpochPlan, Planner


class Epochs:
    """Plans by number of epoch; the present one and the next are held.

    A plan of ten million examples takes many seconds, in which the first batch of an epoch would have to be waited for.
    """

    def __init__(self, planner: Planner, count: int) -> None:
        """Args: planner; count: epochs that there are, the last of which has no next one."""
        self._planner, self._count = planner, count
        self._thread = ThreadPoolExecutor(1, "jaxft-plan")
        self._plans: dict[int, Future[EpochPlan]] = {}

    def plan(self, epoch: int) -> EpochPlan:
        """Of this epoch; waits for it. The next one is begun."""
        wanted = range(epoch, min(epoch + 2, self._count))
        held = self._plans
        self._plans = {n: held.get(n) or self._thread.submit(self._planner.plan_epoch, n) for n in wanted}
        return self._plans[epoch].result()

    def close(self) -> None:
        """Make no more plans."""
        self._thread.shutdown(wait=False, cancel_futures=True)
