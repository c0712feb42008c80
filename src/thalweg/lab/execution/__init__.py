"""Runs on one machine: who does them, where they come from, and what keeps processes out of each other's way."""
