"""What a model call cost, from the price list that comes with genai-prices. Budgets are kept elsewhere."""

from decimal import ROUND_HALF_UP, Decimal

from genai_prices import calc_price
from pydantic_ai.messages import ModelResponse

_MICROS = Decimal(1_000_000)


def price(response: ModelResponse) -> tuple[int, bool]:
    """The cost in millionths of a US dollar, and whether anybody knows it."""
    if not response.model_name:
        return 0, False
    try:
        found = calc_price(
            response.usage,
            response.model_name,
            provider_id=response.provider_name,
            genai_request_timestamp=response.timestamp,
        )
    except LookupError:
        return 0, False
    return int((found.total_price * _MICROS).to_integral_value(ROUND_HALF_UP)), True
