"""The modules that decide what is recorded, and the tests that judge their mutants.

Only fast tests are listed, because each of them runs for each mutant: together they should take
about a second. The tests that kill most mutants come first, because a run ends with the first
failure.
"""

from __future__ import annotations

_SESSIONS = (
    "tests/unit/test_sessions_are_recorded.py",
    "tests/unit/test_recording_goes_on_over_reconnections.py",
    "tests/unit/test_sessions_end_in_one_way.py",
)
_SERVER = (
    "tests/unit/test_what_is_in_flight_is_recorded.py",
    *_SESSIONS,
    "tests/unit/test_interrupted_sessions_are_resumed.py",
    "tests/unit/test_take_overs_lose_nothing.py",
    "tests/unit/test_tracks_have_recordings_of_their_own.py",
)
_ORDER = (
    "tests/unit/test_jumps_and_restarts_are_told_apart.py",
    "tests/property/test_packet_order_laws.py",
)
_SOUND = (
    "tests/unit/test_sound_belongs_to_its_run.py",
    "tests/unit/test_what_is_lost_is_rebuilt.py",
)
_RECORDING = (
    "tests/unit/test_a_recording_decides_what_is_written.py",
    "tests/unit/test_recording_has_the_length_of_reality.py",
    "tests/unit/test_ledger_and_verdict.py",
)
_LIMITS = (
    "tests/unit/test_one_publisher_cannot_fill_the_disk.py",
    "tests/unit/test_sessions_have_limits.py",
)
_CHANNELS = (
    "tests/unit/test_a_second_channel_is_kept.py",
    "tests/property/test_channel_laws.py",
)
_CLIENT = (
    "tests/unit/test_captured_sound_is_kept.py",
    "tests/unit/test_the_stream_is_true_to_the_microphone.py",
    "tests/unit/test_a_source_is_streamed.py",
)
_UPLINK = (
    "tests/unit/test_the_way_to_the_server_is_kept.py",
    "tests/unit/test_a_source_is_streamed.py",
)
_SPOOLS = (
    "tests/unit/test_a_spool_is_sent.py",
    "tests/unit/test_owed_spools_are_delivered.py",
)

JUDGES: dict[str, tuple[str, ...]] = {
    "domain/rtp/counters.py": (*_ORDER, *_RECORDING),
    "domain/rtp/order.py": (
        *_ORDER,
        "tests/unit/test_waiting_packets_cost_little.py",
        *_SESSIONS,
    ),
    "domain/rtp/rate.py": _LIMITS,
    "domain/rtp/sources.py": ("tests/unit/test_one_source_is_recorded_at_a_time.py", *_SESSIONS),
    "domain/rtp/packetizer.py": (
        "tests/unit/test_packets_are_numbered_over_connections.py",
        *_CLIENT,
    ),
    "domain/rtp/redundancy.py": (
        "tests/unit/test_red_is_read_with_suspicion.py",
        "tests/unit/test_what_is_lost_is_rebuilt.py",
    ),
    "domain/rtp/reports.py": (
        "tests/unit/test_reports_say_what_came.py",
        "tests/unit/test_rtp_header.py",
    ),
    "domain/recording/reconstruction.py": (*_SOUND, *_SESSIONS),
    "domain/recording/timeline.py": (
        "tests/unit/test_timestamps_are_believed_within_limits.py",
        *_RECORDING,
    ),
    "domain/recording/pace_limit.py": _LIMITS,
    "domain/recording/clock.py": (
        "tests/unit/test_skew_is_measured.py",
        "tests/unit/test_ledger_and_verdict.py",
    ),
    "domain/recording/recording.py": (*_RECORDING, *_SESSIONS, *_LIMITS),
    "domain/recording/channels.py": _CHANNELS,
    "domain/recording/ledger.py": (
        "tests/unit/test_ledgers_stay_small_and_true.py",
        "tests/unit/test_ledger_and_verdict.py",
    ),
    "domain/session/limits.py": _LIMITS,
    "domain/session/session.py": ("tests/unit/test_sessions_end_in_one_way.py", *_SESSIONS),
    "domain/services/client/publisher.py": _CLIENT,
    "domain/services/client/live_sound.py": _CLIENT,
    "domain/services/client/lasting_source.py": _CLIENT,
    "domain/services/client/captured_sound.py": _CLIENT,
    "domain/services/client/kept_sound.py": _CLIENT,
    "domain/services/client/uplink.py": _UPLINK,
    "domain/services/client/attempt.py": _UPLINK,
    "domain/services/client/pacing.py": (
        "tests/unit/test_captured_sound_gives_way_to_live_sound.py",
    ),
    "domain/services/client/pieces.py": ("tests/unit/test_pieces_are_chosen.py", *_SPOOLS),
    "domain/services/client/retrying.py": _SPOOLS,
    "domain/services/client/spool_sender.py": _SPOOLS,
    "domain/services/client/owed_spools.py": ("tests/unit/test_owed_spools_are_delivered.py",),
    "domain/services/server/sessions.py": _SERVER,
    "domain/services/server/admission.py": ("tests/unit/test_newcomers_get_places.py",),
    "domain/services/server/answers.py": ("tests/unit/test_newcomers_get_places.py", *_SERVER),
    "domain/services/server/ending.py": _SERVER,
    "domain/services/server/delivery.py": _SERVER,
    "domain/services/server/live_session.py": _SERVER,
    "domain/services/server/track_processor.py": (
        "tests/unit/test_a_track_becomes_a_recording.py",
        *_SERVER,
    ),
    "domain/services/server/track_receiver.py": (
        "tests/unit/test_a_track_is_received_in_order.py",
        *_SERVER,
    ),
    "domain/services/server/track_recorder.py": (
        "tests/unit/test_a_track_becomes_a_recording.py",
        *_SERVER,
        "tests/unit/test_a_second_channel_is_kept.py",
    ),
    "domain/services/server/track_decoder.py": (*_CHANNELS, *_SOUND),
    "domain/services/server/track_identity.py": (
        "tests/unit/test_a_track_becomes_a_recording.py",
        *_SERVER,
    ),
    "domain/sound/channels.py": (
        "tests/unit/test_stereo_is_told_from_doubled_mono.py",
        *_CHANNELS,
    ),
}
