-- ledger.sql: Tollway's ledger in PostgreSQL (12 or newer). docs/ledger.md says how to load pages into it.
-- A row here is a row of the ledger; each column is the field of that name (docs/state.md).
-- Amounts are whole nano-dollars: 1 dollar is 1 000 000 000.

CREATE TABLE IF NOT EXISTS tollway_ledger (
    run_id text NOT NULL,
    started_at timestamptz NOT NULL,
    kind text NOT NULL,
    adjusts text,
    tenant text NOT NULL,
    "user" text,
    feature text,
    virtual_key_id text,
    prompt_id text,
    prompt_version text,
    config_version text,
    endpoint text,
    requested_model text,
    rule text,
    split text,
    served_model text,
    provider text,
    deployment text,
    attempts integer,
    given_up text,
    fallback_reason text,
    translated text,
    dropped_fields text,
    stream boolean,
    status integer,
    error_source text,
    input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    usage_source text,
    price_version text,
    held_nusd bigint,
    cost_nusd bigint,
    charged_nusd bigint,
    absorbed_nusd bigint,
    saved_nusd bigint,
    key_source text,
    cache text,
    latency_ms double precision,
    first_byte_ms double precision,
    overhead_us bigint,
    PRIMARY KEY (tenant, run_id)
);

CREATE INDEX IF NOT EXISTS tollway_ledger_by_time ON tollway_ledger (tenant, started_at);

-- Rows of the kind 'audit', one for each change to a tenant: who did what. All of the above but their names and time is null.
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS actor text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS action text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS details jsonb;

-- Of a table that an earlier release made.
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS translated text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS dropped_fields text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS rule text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS split text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS given_up text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS fallback_reason text;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS saved_nusd bigint;
ALTER TABLE tollway_ledger ADD COLUMN IF NOT EXISTS cache text;

-- What COPY fills: one line a row, as it stands in a page. Unlogged: it can be filled again at any time.
CREATE UNLOGGED TABLE IF NOT EXISTS tollway_ledger_lines (line text NOT NULL);

-- Moves the lines into the ledger, and says how many were new. A row that is there already is left as it is, so a page
-- may be loaded twice. PostgreSQL has no character U+0000, which a caller can put into a model's name.
CREATE OR REPLACE FUNCTION tollway_ledger_take_lines() RETURNS bigint LANGUAGE sql AS $$
    WITH taken AS (
        DELETE FROM tollway_ledger_lines RETURNING replace(line, '\u0000', '\ufffd')::jsonb AS fields
    ), added AS (
        INSERT INTO tollway_ledger
        SELECT (jsonb_populate_record(NULL::tollway_ledger, fields)).* FROM taken
        ON CONFLICT (tenant, run_id) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM added
$$;
