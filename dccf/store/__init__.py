"""PostgreSQL behind named queries: tables, migrations, blobs; rows leave here as frozen values.

No SQL stands outside this package. Each module holds the queries of one noun; they take an open
transaction (:class:`sqlalchemy.Connection`), so that callers decide what happens together.
"""
