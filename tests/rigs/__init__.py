"""Real parts for tests: a microphone, processes, a browser, networks."""
