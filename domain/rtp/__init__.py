"""RTP (RFC 3550): packets, their order, redundancy, sources and reports."""
