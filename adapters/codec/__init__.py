"""Opus through libopus; G.711, G.722 and resampling through PyAV."""
