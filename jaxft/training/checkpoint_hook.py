"""The hook that saves checkpoints."""

from jaxft.run.claim import Claim
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.hooks import Checkpoint, Hook


class SaveCheckpoints(Hook):
    """Begins to write every checkpoint that is due, while the run directory is still this process's own.

    Args of the constructor:
      checkpoints: of the run.
      claim: of its directory, if there is one.
    """

    def __init__(self, checkpoints: Checkpoints, claim: Claim | None) -> None:
        self._checkpoints, self._claim = checkpoints, claim

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Returns once the arrays are safe from the next step's donation."""
        if self._claim:
            self._claim.check()
        self._checkpoints.save(checkpoint.state, checkpoint.progress)

    def close(self) -> None:
        """Wait for what is being written."""
        self._checkpoints.close()
