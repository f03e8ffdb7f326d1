"""Telephony: calls, messages, sound, trunks and records."""
