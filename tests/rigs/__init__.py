"""Real parts on a bare machine: a microphone, processes, a browser."""
