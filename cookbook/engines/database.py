"""Any SQL database: what the recipes for SQLAlchemy need.

It has no server of its own. The engines with a `dialect` serve it, each in turn; the
address is SQLAlchemy's.
"""

from cookbook.engines.base import Engine, Server, Starter


class Database(Engine):
    name = "database"
    title = "SQL database"
    env = "DATABASE_URL"
    example = "postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook"
    install = "SQLite is always there"
    is_any = True

    starter = Starter(
        body="""\
engine = create_engine(address)
with engine.connect() as conn:
    answer = conn.execute(text("SELECT 6 * 7")).scalar_one()
engine.dispose()
return int(answer)""",
        driver="from sqlalchemy import create_engine, text",
        dependency="sqlalchemy>=2.1",
    )

    @property
    def no_server(self) -> str:
        return f"Set {self.env}, for example {self.example} or sqlite:///app.db"

    def address_in(self, engine: Engine, address: str) -> str:
        return engine.sqlalchemy_url(address)

    def identify(self, url: str) -> tuple[str, str]:
        raise NotImplementedError

    def create_place(self, server: Server, name: str) -> str:
        raise NotImplementedError

    def drop_place(self, server: Server, url: str) -> None:
        raise NotImplementedError
