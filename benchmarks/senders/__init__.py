"""Plays scripted senders over real SRTP, and compares the recordings with what was sent.

Each case imitates a sender that was seen in practice: devices that stall, clocks that are wrong,
timestamps that count wrong, networks that hold packets. All cases run at the same time against
one `gapless serve`.
"""
