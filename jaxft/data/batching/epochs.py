"""The batches of a run's epochs; those of the next epoch are computed in a thread during the current one."""

from concurrent.futures import Future, ThreadPoolExecutor

from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches


class Epochs:
    """The batches of the current and the next epoch.

    Computing those of ten million examples takes many seconds, for which the first step of an epoch would have to wait.

    Args:
      sampler: the sampler of the run.
      count: number of epochs.
    """

    def __init__(self, sampler: BatchSampler, count: int) -> None:
        self._sampler, self._count = sampler, count
        self._thread = ThreadPoolExecutor(1, "jaxft-batches")
        self._futures: dict[int, Future[EpochBatches]] = {}

    def batches(self, epoch: int) -> EpochBatches:
        """Waits for the batches of an epoch, and starts to compute those of the next one."""
        wanted = range(epoch, min(epoch + 2, self._count))
        futures = self._futures
        self._futures = {n: futures.get(n) or self._thread.submit(self._sampler.epoch_batches, n) for n in wanted}
        return self._futures[epoch].result()

    def close(self) -> None:
        """Stop computing batches."""
        self._thread.shutdown(wait=False, cancel_futures=True)
