"""What the engine gives the device outside the networks, a step: counted, not timed."""
