-- reservation.lua: what the scripts that reserve and settle share. Stands behind common.lua, and before theirs.
-- KEYS  1 a name of the tenant's state. Names that only a reservation knows (the scopes that it touched) are built
--         from its prefix.
-- ARGV  none of its own
-- Returns nothing: it defines what follows. docs/state.md names every field.
-- Invariants, for each scope and period: held is the sum over its pending reservations, spent the sum over what was
-- settled and what expired, `n` the number of its pending reservations; a scope with one of them never expires.
-- The row is appended before any money moves: if Redis refuses a write, it refuses the first one.
local DEBT_US_MAX = 365 * 24 * HOUR_S * 1000000
local TOMBSTONE_MS, EXPIRED_TOMBSTONE_MS = HOUR_S * 1000, 24 * HOUR_S * 1000
local PRUNED_MAX = 200
local leases = prefix .. 'leases'

local function add(use, field, amount)
  if amount ~= 0 then call('HINCRBY', use, field, amount) end
end

local function member_of(run) return string.sub(run, #prefix + #'run:' + 1) end  -- RUN:STEP

local function row_id_of(member) return (string.gsub(member, ':0$', '')) end  -- a run's first step is its row's name

-- Of a scope without pending reservations; one that has spent of a total stays for ever.
local function forget_later(use, periods)
  local total, requests_tat_us, tokens_tat_us = unpack(call('HMGET', use, 't:s', 'r', 't'))
  if (total or '0') ~= '0' then
    call('PERSIST', use)  -- before it spent, it may have had an end
  else
    keep_for(use, periods, {requests_tat_us, tokens_tat_us})
  end
end

-- Whether no window can ask for a period any more. What is posted to it is dropped, what it holds may be pruned.
local function is_over(period)
  local kept_s = PERIOD_KEPT_S[string.sub(period, 1, 1)]
  return kept_s ~= nil and tonumber(string.sub(period, 2)) + kept_s <= math.floor(now_ms / 1000)
end

-- The token bucket took what was expected; now it has taken what was used, into debt if need be.
local function correct_tokens(use, tokens_per_minute, expected_tokens, tokens)
  if tokens_per_minute == 0 or tokens == expected_tokens then return end
  local difference_us = math.ceil(tokens * 60000000 / tokens_per_minute)
    - math.ceil(expected_tokens * 60000000 / tokens_per_minute)
  local tat_us = math.max(tonumber(call('HGET', use, 't') or '0'), now_us) + difference_us
  call('HSET', use, 't', math.min(math.max(tat_us, now_us), now_us + DEBT_US_MAX))
end

-- Let the hold of a pending reservation go, and post what was spent instead, both in its own periods.
local function close(touched, held_nusd, spent_nusd, expected_tokens, tokens)
  for _, entry in ipairs(touched) do
    local use = prefix .. 'use:' .. entry[1]
    for _, period in ipairs(entry[3]) do
      add(use, period .. ':h', -held_nusd)
      add(use, period .. ':s', spent_nusd)
    end
    correct_tokens(use, entry[2], expected_tokens, tokens)
    if call('HINCRBY', use, 'n', '-1') == 0 then forget_later(use, entry[3]) end
  end
end

-- Let a pending reservation hold more, in the periods in which it was admitted. `row` is what its lease would leave now.
local function hold_more(run, entries, before_nusd, held_nusd, row)
  call('HSET', run, 'held', held_nusd, 'row', row)
  for _, entry in ipairs(entries) do
    for _, period in ipairs(entry[3]) do add(prefix .. 'use:' .. entry[1], period .. ':h', held_nusd - before_nusd) end
  end
end

-- Post an amount to scopes that this reservation does not hold anything of (any more).
local function post_late(touched, spent_nusd, expected_tokens, tokens)
  for _, entry in ipairs(touched) do
    local use = prefix .. 'use:' .. entry[1]
    for _, period in ipairs(entry[3]) do
      if not is_over(period) then add(use, period .. ':s', spent_nusd) end
    end
    correct_tokens(use, entry[2], expected_tokens, tokens)
    local is_idle = (call('HGET', use, 'n') or '0') == '0'
    if is_idle and call('EXISTS', use) == 1 then forget_later(use, entry[3]) end
  end
end

-- Expire at most so many leases that have run out: charged at the worst case, with the row that admission stored.
local function expire(at_most)
  local due = call('ZRANGEBYSCORE', leases, '-inf', now_ms, 'LIMIT', '0', at_most)
  for _, member in ipairs(due) do
    local run = prefix .. 'run:' .. member
    local state, held, tokens, touched, row = unpack(call('HMGET', run, 'state', 'held', 'tokens', 'touched', 'row'))
    if state == 'pending' then
      local held_nusd, expected_tokens = tonumber(held), tonumber(tokens)
      append(row_id_of(member), row)
      close(cjson.decode(touched), held_nusd, held_nusd, expected_tokens, expected_tokens)
      call('HSET', run, 'state', 'expired', 'cost', held)
      call('HDEL', run, 'row')
      call('PEXPIRE', run, EXPIRED_TOMBSTONE_MS)
    end
    call('ZREM', leases, member)
  end
  return #due
end

-- ── what a scope has used ──────────────────────────────────────────────────────────────────────────────────────────

-- The hours whose sum a rolling window is: its own, the 24 before it, and those begun since that share a window with it,
-- as long as they are kept: of a reservation from hours ago some may be pruned. Next, the place of its own among them.
local function hours_of(period)
  local own_s = tonumber(string.sub(period, 2))
  local begun_s = math.floor(now_ms / 1000 / HOUR_S) * HOUR_S
  local last_s = math.max(own_s, math.min(begun_s, own_s + 24 * HOUR_S))
  local kept_s = math.floor((now_ms / 1000 - PERIOD_KEPT_S.h) / HOUR_S) * HOUR_S + HOUR_S
  local first_s, hours = math.max(own_s - 24 * HOUR_S, kept_s), {}
  for start_s = first_s, last_s, HOUR_S do hours[#hours + 1] = start_s end
  return hours, (own_s - first_s) / HOUR_S + 1
end

-- Read a scope's buckets, its pending reservations, and what each window has spent and holds. `is_new` says that its own
-- period has no counter yet; of a rolling one `hours` are the starts, and `each` what is used in them.
local function read_scope(use, windows)
  local fields, hours, owns, at = {'r', 't', 'n'}, {}, {}, 3
  for i = 1, #windows do
    local period = windows[i][1]
    if windows[i][3] == 1 then
      hours[i], owns[i] = hours_of(period)
      for k = 1, #hours[i] do
        local hour = 'h' .. decimal(hours[i][k])
        fields[at + 1], fields[at + 2], at = hour .. ':s', hour .. ':h', at + 2
      end
    else
      fields[at + 1], fields[at + 2], at = period .. ':s', period .. ':h', at + 2
    end
  end
  local values, used = call('HMGET', use, unpack(fields)), {}
  at = 4
  for i = 1, #windows do
    local starts_s, spent_nusd, held_nusd, each, own = hours[i], 0, 0, nil, at
    if starts_s then
      each, own = {}, owns[i] > 0 and at + 2 * (owns[i] - 1) or #fields + 1
    end
    for k = 1, starts_s and #starts_s or 1 do
      local spent, held = tonumber(values[at] or '0'), tonumber(values[at + 1] or '0')
      spent_nusd, held_nusd, at = spent_nusd + spent, held_nusd + held, at + 2
      if each then each[k] = spent + held end
    end
    local is_new = not values[own] and not values[own + 1]
    used[i] = {spent = spent_nusd, held = held_nusd, is_new = is_new, hours = starts_s, each = each}
  end
  return {r = tonumber(values[1] or '0'), t = tonumber(values[2] or '0'), n = tonumber(values[3] or '0'), used = used}
end

-- When enough hours have left a rolling window for the amount to fit; -1: a window's own end, or never.
local function resets_at_ms(used, cap_nusd, needed_nusd)
  if not used.hours then return -1 end
  local left_nusd = used.spent + used.held
  for k, start_s in ipairs(used.hours) do
    left_nusd = left_nusd - used.each[k]
    if left_nusd + needed_nusd <= cap_nusd then return (start_s + 25 * HOUR_S) * 1000 end
  end
  return -1
end

-- The first cap that cannot hold so much more: {scope, window, cap, spent, held, needed, resets at}, from 0 on; or nil.
local function first_cap(checks, scopes, needed_nusd)
  for s, check in ipairs(checks) do
    for w, window in ipairs(check[6]) do
      local cap_nusd, used = window[2], scopes[s].used[w]
      if cap_nusd >= 0 and used.spent + used.held + needed_nusd > cap_nusd then
        local resets = resets_at_ms(used, cap_nusd, needed_nusd)
        return {s - 1, w - 1, cap_nusd, used.spent, used.held, needed_nusd, resets}
      end
    end
  end
  return nil
end
