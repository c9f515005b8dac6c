"""How often the log hears of what a guest can do for ever."""


def worth_telling(count: int) -> bool:
    """Is the ``count``-th of its kind (from 1) to be logged? The 1st, 2nd, 4th, 8th and so on are."""
    return count & (count - 1) == 0
