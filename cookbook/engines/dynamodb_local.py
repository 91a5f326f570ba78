"""DynamoDB Local alone: MiniStack does not count what a read costs."""

from pathlib import Path

from cookbook.engines.base import Program
from cookbook.engines.dynamodb import DynamoDB
from cookbook.paths import FETCHED


class DynamoDBLocal(DynamoDB):
    name = "dynamodb_local"
    title = "Amazon DynamoDB"
    install = "cookbook fetch dynamodb"
    fetches = None  # what is fetched for `dynamodb` serves here

    @property
    def fetched(self) -> Path:
        return FETCHED / "dynamodb"

    def embedded(self) -> Program | None:
        return None

    def identify(self, url: str) -> tuple[str, str]:
        product, version = super().identify(url)
        if product != "DynamoDB Local":
            raise ValueError(f"it is {product}, which does not count what a read costs")
        return product, version
