"""What other people's producers send, by a client that is not ours, on a real broker."""
