"""Outputs of sound: a loudspeaker, a file, a pipe."""
