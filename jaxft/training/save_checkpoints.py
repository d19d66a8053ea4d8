"""The callback that saves checkpoints."""

from jaxft.run.claim import Claim
from jaxft.training.callbacks import Callback, Checkpoint
from jaxft.training.checkpoint import Checkpoints


class SaveCheckpoints(Callback):
    """Starts to write every checkpoint that is due, if the claimed run directory still belongs to this process."""

    def __init__(self, checkpoints: Checkpoints, claim: Claim | None) -> None:
        self._checkpoints, self._claim = checkpoints, claim

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Start writing."""
        if self._claim:
            self._claim.check()
        self._checkpoints.save(checkpoint.state, checkpoint.progress)

    def close(self) -> None:
        """Wait until all checkpoints are on disk."""
        self._checkpoints.close()
