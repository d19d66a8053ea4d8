"""Models behind HTTP: requests are batched into the declared shapes of `jaxft.pipeline`."""
