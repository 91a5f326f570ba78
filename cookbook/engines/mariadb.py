"""MariaDB, an engine of its own: the recipes for MySQL run on it too."""

from cookbook.engines.base import Program, on_path
from cookbook.engines.mysql import MySQL


class MariaDB(MySQL):
    name = "mariadb"
    title = "MariaDB"
    env = "MARIADB_URL"
    example = "mysql://cook:cook@127.0.0.1:13307/cookbook"
    install = "apt-get install mariadb-server"
    fixture = "mysql"

    def native(self) -> Program | None:
        return on_path("mariadbd")
