"""The tables of the embedded store, as the steps that lead to them.

Each room writes and reads its own; they stand here together because the file has one number
(`user_version`) for all of them. Entry n leads from n to n + 1. A line that a release has
shipped is never changed: append. They need SQLite 3.37 (STRICT) with its JSON functions, which
are part of it by default since 3.38.
"""

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE virtual_keys (
            id TEXT NOT NULL PRIMARY KEY,
            digest TEXT NOT NULL UNIQUE,
            tenant_id TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            revoked_at_ms INTEGER,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX virtual_keys_by_tenant ON virtual_keys (tenant_id, created_at_ms, id)",
        """CREATE TABLE ledger (
            position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            data BLOB NOT NULL,
            UNIQUE (tenant_id, run_id)
        ) STRICT""",
        "CREATE INDEX ledger_by_tenant ON ledger (tenant_id, position)",
    ),
    (
        """CREATE TABLE tenants (
            id TEXT NOT NULL PRIMARY KEY,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE admission_epoch (
            one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
            epoch TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE admission_scopes (
            tenant_id TEXT NOT NULL,
            scope TEXT NOT NULL,
            requests_tat_us INTEGER NOT NULL,
            tokens_tat_us INTEGER NOT NULL,
            pending INTEGER NOT NULL,
            forget_at_ms INTEGER,
            PRIMARY KEY (tenant_id, scope)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX admission_scopes_idle ON admission_scopes (forget_at_ms) WHERE forget_at_ms IS NOT NULL",
        """CREATE TABLE admission_periods (
            tenant_id TEXT NOT NULL,
            scope TEXT NOT NULL,
            period TEXT NOT NULL,
            spent_nusd INTEGER NOT NULL,
            held_nusd INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, scope, period)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE admission_runs (
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            step INTEGER NOT NULL,
            state TEXT NOT NULL,
            held_nusd INTEGER NOT NULL,
            cost_nusd INTEGER NOT NULL,
            expected_tokens INTEGER NOT NULL,
            touched BLOB NOT NULL,
            row BLOB NOT NULL,
            refusal BLOB,
            lease_until_ms INTEGER,
            forget_at_ms INTEGER,
            PRIMARY KEY (tenant_id, run_id, step)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX admission_leases ON admission_runs (lease_until_ms) WHERE lease_until_ms IS NOT NULL",
        """CREATE INDEX admission_leases_by_tenant ON admission_runs (tenant_id, lease_until_ms)
            WHERE lease_until_ms IS NOT NULL""",
        "CREATE INDEX admission_runs_ended ON admission_runs (forget_at_ms) WHERE forget_at_ms IS NOT NULL",
    ),
    (  # the export of the ledger
        """CREATE TABLE ledger_cursors (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            position INTEGER NOT NULL DEFAULT 0,
            pages INTEGER NOT NULL DEFAULT 0,
            hash TEXT NOT NULL,
            series INTEGER NOT NULL DEFAULT 1,
            fence INTEGER NOT NULL DEFAULT 0,
            holder TEXT NOT NULL DEFAULT '',
            claimed_until_ms INTEGER NOT NULL DEFAULT 0
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE ledger_remembered (
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            exported_at_ms INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, run_id)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX ledger_remembered_by_age ON ledger_remembered (exported_at_ms)",
        """CREATE TABLE ledger_backlog (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO ledger_backlog
            SELECT tenant_id, count(*), sum(length(data)) FROM ledger GROUP BY tenant_id""",
        """CREATE TRIGGER ledger_row_added AFTER INSERT ON ledger BEGIN
            INSERT INTO ledger_backlog (tenant_id, rows, bytes)
                SELECT NEW.tenant_id, 0, 0
                WHERE NOT EXISTS (SELECT 1 FROM ledger_backlog WHERE tenant_id = NEW.tenant_id);
            UPDATE ledger_backlog SET rows = rows + 1, bytes = bytes + length(NEW.data)
                WHERE tenant_id = NEW.tenant_id;
        END""",
        """CREATE TRIGGER ledger_row_gone AFTER DELETE ON ledger BEGIN
            UPDATE ledger_backlog SET rows = rows - 1, bytes = bytes - length(OLD.data)
                WHERE tenant_id = OLD.tenant_id;
        END""",
    ),
    (  # the keyring: `change` is the tenant's place in the order of all changes
        """CREATE TABLE keyring_tenants (
            id TEXT NOT NULL PRIMARY KEY,
            epoch INTEGER NOT NULL,
            change INTEGER NOT NULL UNIQUE,
            dek_id TEXT,
            shredded_at_ms INTEGER
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE keyring_deks (
            tenant_id TEXT NOT NULL,
            id TEXT NOT NULL,
            kek_id TEXT NOT NULL,
            wrapped BLOB NOT NULL,
            created_at_ms INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE provider_keys (
            tenant_id TEXT NOT NULL,
            slot TEXT NOT NULL,
            record BLOB NOT NULL,
            PRIMARY KEY (tenant_id, slot)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE provider_keys_past (
            position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            tenant_id TEXT NOT NULL,
            record BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX provider_keys_past_by_tenant ON provider_keys_past (tenant_id, position)",
    ),
    (  # a virtual key has a digest under each pepper that is not retired; '' is one that nobody has noted
        "ALTER TABLE virtual_keys RENAME TO virtual_keys_of_one_digest",
        """CREATE TABLE virtual_keys (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            revoked_at_ms INTEGER,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE virtual_key_digests (
            digest TEXT NOT NULL PRIMARY KEY,
            id TEXT NOT NULL REFERENCES virtual_keys (id) ON DELETE CASCADE,
            pepper TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO virtual_keys
            SELECT id, tenant_id, created_at_ms, revoked_at_ms, record FROM virtual_keys_of_one_digest""",
        "INSERT INTO virtual_key_digests SELECT digest, id, '' FROM virtual_keys_of_one_digest",
        "DROP TABLE virtual_keys_of_one_digest",
        "CREATE INDEX virtual_keys_by_tenant ON virtual_keys (tenant_id, created_at_ms, id)",
        "CREATE INDEX virtual_key_digests_by_id ON virtual_key_digests (id, pepper)",
    ),
    (
        """CREATE TABLE absorption_holds (
            day TEXT NOT NULL,
            run_id TEXT NOT NULL,
            held_nusd INTEGER NOT NULL,
            PRIMARY KEY (day, run_id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE absorption_days (
            day TEXT NOT NULL PRIMARY KEY,
            spent_nusd INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE switches (
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            record BLOB NOT NULL,
            PRIMARY KEY (kind, name)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE cache_secrets (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            secret BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE cache_purges (
            tenant_id TEXT NOT NULL,
            alias TEXT NOT NULL,
            before_ms INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, alias)
        ) STRICT, WITHOUT ROWID""",
    ),
    (  # one look at the backlog for each row that is added, instead of two
        "DROP TRIGGER ledger_row_added",
        """CREATE TRIGGER ledger_row_added AFTER INSERT ON ledger BEGIN
            INSERT INTO ledger_backlog (tenant_id, rows, bytes) VALUES (NEW.tenant_id, 1, length(NEW.data))
                ON CONFLICT (tenant_id) DO UPDATE SET rows = rows + 1, bytes = bytes + excluded.bytes;
        END""",
    ),
    (  # rows in batches: `sqlite_ledger` says why
        """CREATE TABLE ledger_run_ids (
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            PRIMARY KEY (tenant_id, run_id)
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO ledger_run_ids
            SELECT tenant_id, run_id FROM ledger UNION SELECT tenant_id, run_id FROM ledger_remembered""",
        """CREATE TABLE ledger_batches (
            tenant_id TEXT NOT NULL,
            last_position INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            run_ids TEXT NOT NULL,
            sizes_bytes TEXT NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (tenant_id, last_position)
        ) STRICT""",
        """INSERT INTO ledger_batches
            SELECT tenant_id, position, 1, json_array(run_id), json_array(length(data)), data FROM ledger""",
        """CREATE TABLE ledger_exported (
            number INTEGER NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            exported_at_ms INTEGER NOT NULL,
            run_ids TEXT NOT NULL
        ) STRICT""",
        """INSERT INTO ledger_exported (tenant_id, exported_at_ms, run_ids)
            SELECT tenant_id, exported_at_ms, json_group_array(run_id) FROM ledger_remembered
            WHERE (tenant_id, run_id) NOT IN (SELECT tenant_id, run_id FROM ledger)
            GROUP BY tenant_id, exported_at_ms""",
        "CREATE INDEX ledger_exported_by_age ON ledger_exported (exported_at_ms)",
        "ALTER TABLE ledger_backlog ADD COLUMN last_position INTEGER NOT NULL DEFAULT 0",
        """UPDATE ledger_backlog SET last_position = max(
            coalesce((SELECT max(position) FROM ledger WHERE tenant_id = ledger_backlog.tenant_id), 0),
            coalesce((SELECT position FROM ledger_cursors WHERE tenant_id = ledger_backlog.tenant_id), 0))""",
        "DROP TABLE ledger",
        "DROP TABLE ledger_remembered",
        # Each row by itself, for whoever looks into the file.
        """CREATE VIEW ledger (tenant_id, position, run_id, data) AS
            SELECT
                batch.tenant_id,
                batch.last_position - batch.rows + 1 + size.key,
                json_extract(batch.run_ids, '$[' || size.key || ']'),
                coalesce(substr(
                    batch.data,
                    1 + coalesce((SELECT sum(value) FROM json_each(batch.sizes_bytes) WHERE key < size.key), 0),
                    size.value
                ), x'')
            FROM ledger_batches AS batch, json_each(batch.sizes_bytes) AS size""",
    ),
)

# Of a file of its own, in which nothing is that may not be lost.
CACHE_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # What was deleted makes room for what comes: the file does not grow beyond what it once held at most.
        """CREATE TABLE cache_entries (
            tenant_id TEXT NOT NULL,
            name TEXT NOT NULL,
            kept_at_ms INTEGER NOT NULL,
            expires_at_ms INTEGER NOT NULL,
            size_bytes INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (tenant_id, name)
        ) STRICT""",
        "CREATE INDEX cache_entries_by_age ON cache_entries (kept_at_ms)",
        "CREATE INDEX cache_entries_by_end ON cache_entries (expires_at_ms)",
        """CREATE TABLE cache_claims (
            tenant_id TEXT NOT NULL,
            name TEXT NOT NULL,
            token TEXT NOT NULL,
            until_ms INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, name)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX cache_claims_by_end ON cache_claims (until_ms)",
        "CREATE TABLE cache_size (one INTEGER NOT NULL PRIMARY KEY, size_bytes INTEGER NOT NULL) STRICT",
        "INSERT INTO cache_size VALUES (1, 0)",
        """CREATE TRIGGER cache_entries_come AFTER INSERT ON cache_entries BEGIN
            UPDATE cache_size SET size_bytes = size_bytes + new.size_bytes;
        END""",
        """CREATE TRIGGER cache_entries_go AFTER DELETE ON cache_entries BEGIN
            UPDATE cache_size SET size_bytes = size_bytes - old.size_bytes;
        END""",
    ),
    (  # a claim is of a run; those of before are not worth their keeping: each ends by itself within minutes
        "DROP TABLE cache_claims",
        """CREATE TABLE cache_claims (
            tenant_id TEXT NOT NULL,
            name TEXT NOT NULL,
            run_id TEXT NOT NULL,
            until_ms INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, name)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX cache_claims_by_end ON cache_claims (until_ms)",
    ),
)
