"""The spools of a client on its disk.

A folder for each spool, named by its id:

- ``journal``: lines of JSON, locked (flock) by the process that uses the spool. First what the
  spool is, then ``{"hole": [start, end]}`` for what was not captured within a file, and
  ``{"session": {...}}`` for each session that was told of it, with its secret.
- ``POSITION.pcm``: packed PCM from that position on. The last one, the head, is being written.
- ``POSITION.flac``: the same as FLAC. It takes its place once it is on the disk.

Files hold silence in holes. Between two files nothing was captured.
"""
