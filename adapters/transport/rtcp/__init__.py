"""RTCP (RFC 3550 § 6): reports, and when they are sent."""
