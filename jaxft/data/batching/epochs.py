"""The plans of a run's epochs, one after the other, each made beside the steps of the one before."""

from concurrent.futures import Future, ThreadPoolExecutor

from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches


class Epochs:
    """Plans by number of epoch; the present one and the next are held.

    A plan of ten million examples takes many seconds, in which the first batch of an epoch would have to be waited for.
    """

    def __init__(self, sampler: BatchSampler, count: int) -> None:
        """Args: sampler; count: epochs that there are, the last of which has no next one."""
        self._planner, self._count = sampler, count
        self._thread = ThreadPoolExecutor(1, "jaxft-plan")
        self._plans: dict[int, Future[EpochBatches]] = {}

    def plan(self, epoch: int) -> EpochBatches:
        """Of this epoch; waits for it. The next one is begun."""
        wanted = range(epoch, min(epoch + 2, self._count))
        held = self._plans
        self._plans = {n: held.get(n) or self._thread.submit(self._planner.epoch_batches, n) for n in wanted}
        return self._plans[epoch].result()

    def close(self) -> None:
        """Make no more plans."""
        self._thread.shutdown(wait=False, cancel_futures=True)
