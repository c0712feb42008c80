"""Counts in words: 1 trial, 26 trials."""


def amount(number: int, noun: str) -> str:
    """Say how many there are, of a noun whose plural ends in s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
