"""Telephone calls for people without SIP: the call, its messages, its sound, its trunks and its records."""
