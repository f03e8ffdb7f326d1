"""What touches the network for everybody: addresses, TLS, systemd's notifications, health checks.

Services and daemons use these; engines and codecs never do.
"""
