"""Identifiers that follow from what they identify, so that a replay gives the same ones."""

from hashlib import blake2b

# 16 bytes: two of 10**12 identifiers collide with probability 10**24 / 2 / 2**128, about 1.5e-15.
ID_BYTES = 16


def derive_id(*parts: str | int) -> str:
    """Give 32 hexadecimal digits that depend on every part, its type, its place and its bounds.

    Each part is written as type, length and content (the netstring of D. J. Bernstein, 1997), so that no separator
    inside a part can make two lists of parts look alike: ("a", "bc") and ("ab", "c") differ, and so do 1 and "1".
    """
    digest = blake2b(digest_size=ID_BYTES, person=b"tidegauge-id")
    for part in parts:
        kind, text = (b"s", part) if isinstance(part, str) else (b"i", str(int(part)))
        # A lone surrogate cannot come from the wire, but an identifier must not be what stops the stream.
        content = text.encode("utf-8", "surrogatepass")
        digest.update(b"%b%d:%b" % (kind, len(content), content))
    return digest.hexdigest()
