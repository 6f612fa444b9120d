"""From a frame to its depth: the network, its weights, and the engines that run it."""
