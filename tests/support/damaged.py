"""Files as a loss of power, a disk or a hand leaves them."""


def _zeroed(content):
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": _zeroed,
    "flipped": _flipped,
    "missing": lambda content: None,
}
"""How a file is damaged: its content to what is left of it, None where there is no file."""


def damage(path, how):
    """Damage a file."""
    left = DAMAGE[how](path.read_bytes())
    if left is None:
        path.unlink()
    else:
        path.write_bytes(left)
