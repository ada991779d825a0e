"""Prompts of the numbers format in words that the nano models know."""


def prompt_of(number: int) -> str:
    """A prompt that is different for each number up to 899."""
    return (
        f"Look at these numbers: {100 + number}, 200, 300. Add at most 10 more numbers to it, with at most 3 "
        "digits each. Separate them with commas."
    )
