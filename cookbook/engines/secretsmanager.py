"""AWS Secrets Manager: MiniStack as its stand-in."""

from contextlib import closing

from cookbook.engines.aws import AWS, asks, make_client
from cookbook.engines.base import Server


class SecretsManager(AWS):
    service = "secretsmanager"

    name = "secretsmanager"
    title = "AWS Secrets Manager"
    env = "AWS_ENDPOINT_URL_SECRETS_MANAGER"
    example = "http://127.0.0.1:14567"
    port = 4566

    starter = asks("secretsmanager", 'list_secrets()["SecretList"]')

    def identify(self, url: str) -> tuple[str, str]:
        said = super().identify(url)
        with closing(make_client(self, url)) as client:
            client.list_secrets()  # refused where MiniStack serves other things only
        return said

    def drop_place(self, server: Server, url: str) -> None:
        with closing(make_client(self, url)) as client:
            pages = client.get_paginator("list_secrets").paginate(
                IncludePlannedDeletion=True
            )
            for secret in [one for page in pages for one in page["SecretList"]]:
                client.delete_secret(
                    SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True
                )
