"""Settings that every gRPC channel and server of this system shares."""

MESSAGE_BYTES = 64 * 2**20
"""Largest message, sent or received. gRPC's own default for clients is 4 MiB."""

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
]
