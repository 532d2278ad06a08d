"""A soak: sessions come and go over a lossy network while an attacker tries all that it knows.

`python -m tests.soak --help`; `make soak-attacked MINUTES=120`.
"""
