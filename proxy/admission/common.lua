-- common.lua: what the scripts of a tenant's state share; its text stands before each of theirs.
-- KEYS  1 a name of the tenant's state: others are built from its prefix, and carry the same hash tag, so they lie in
--         the same cluster slot.
-- ARGV  none of its own
-- Returns nothing: it defines what follows.
-- Invariant: a row is in the ledger once, under its name.
local call = redis.call
local HOUR_S = 3600
local PERIOD_KEPT_S = {h = 26 * HOUR_S, d = 3 * 24 * HOUR_S, m = 64 * 24 * HOUR_S}

local prefix = assert(string.match(KEYS[1], '^tollway:%d+:{[%w_-]+}:'), 'KEYS[1] names no tenant')
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)

local function whole(text, name)
  local number = tonumber(text)
  if number and number >= 0 and number < 2^53 and number == math.floor(number) then return number end
  error(name .. ' out of range')  -- put together here alone: an assertion would do so each time
end

-- To join a large number to a text rounds it. What a command is given needs none of this: Redis writes it with 17 digits.
local function decimal(number) return string.format('%.0f', number) end

local function has_row(row_id) return call('ZSCORE', prefix .. 'ledger-positions', row_id) end

-- As ledger/append.lua does. The stream comes first: it alone can refuse (a position that went back).
local function append_new(row_id, row)
  local positions, rows = prefix .. 'ledger-positions', prefix .. 'ledger'
  local position = decimal(call('INCR', prefix .. 'ledger-last'))
  call('XADD', rows, position .. '-0', 'row', row)
  call('ZADD', positions, position, row_id)
  call('PERSIST', positions)  -- an export that found nothing left lets it go
end

local function append(row_id, row)
  if not has_row(row_id) then append_new(row_id, row) end
end

-- A scope without pending reservations may go once its windows are over and its buckets full (`tats_us`: when they are,
-- false for one that never took anything).
local function keep_for(use, periods, tats_us)
  local kept_ms = 24 * HOUR_S * 1000
  for _, period in ipairs(periods) do
    local kept_s = PERIOD_KEPT_S[string.sub(period, 1, 1)] or 0
    kept_ms = math.max(kept_ms, kept_s * 1000)
  end
  for _, tat_us in ipairs(tats_us) do
    if tat_us then kept_ms = math.max(kept_ms, math.ceil((tonumber(tat_us) - now_us) / 1000)) end
  end
  call('PEXPIRE', use, kept_ms)
end
