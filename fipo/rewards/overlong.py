"""DAPO's soft punishment of responses that come close to the length limit."""


def overlong_penalty(
    response_tokens: int, *, max_response_tokens: int, buffer_tokens: int, penalty: float = 1.0
) -> float:
    """0 up to `max_response_tokens - buffer_tokens`, then linearly down to `-penalty` at the limit (DAPO, Eq. 13).

    Args:
        response_tokens: length of the response.
        max_response_tokens: the limit at which generation stops.
        buffer_tokens: tokens before the limit over which the penalty grows; 0 is no penalty.
        penalty: its size at the limit.
    """
    if not buffer_tokens:
        return 0.0
    excess = response_tokens - (max_response_tokens - buffer_tokens)
    return -penalty * min(max(excess / buffer_tokens, 0.0), 1.0)
