-- grow.lua: let a pending reservation hold more, if every cap of every scope allows it. Stands behind reservation.lua.
-- KEYS  1 run (hash)
-- ARGV  1 held_nusd: the whole amount that it is to hold, so that a repeat adds nothing   2 checks, JSON as in
--       admit.lua, in the order of the reservation's scopes   3 row: what the ledger gets now if the lease runs out
-- Returns {1, held_nusd}; {2, state} not pending, or {2, ""} unknown; {5, scope, window, cap, spent, held, needed,
--   resets_at_ms or -1} as admit.lua, and nothing has changed.
-- Invariant: it grows in the periods in which it was admitted, so that one settlement empties them.
local GROWN, NOT_PENDING, CAP = 1, 2, 5
local run = KEYS[1]
assert(#KEYS == 1 and #ARGV == 3, 'grow: wrong number of arguments')
local held_nusd, checks = whole(ARGV[1], 'held_nusd'), cjson.decode(ARGV[2])
local state, before, touched = unpack(call('HMGET', run, 'state', 'held', 'touched'))
if state ~= 'pending' then return {NOT_PENDING, state or ''} end
local more_nusd = held_nusd - tonumber(before)
if more_nusd <= 0 then return {GROWN, tonumber(before)} end
local entries, scopes = cjson.decode(touched), {}
assert(#entries == #checks, 'grow: checks of other scopes')
for s, entry in ipairs(entries) do scopes[s] = read_scope(prefix .. 'use:' .. entry[1], checks[s][6]) end
local refusal = first_cap(checks, scopes, more_nusd)
if refusal then
  table.insert(refusal, 1, CAP)
  return refusal
end
hold_more(run, entries, tonumber(before), held_nusd, ARGV[3])
return {GROWN, held_nusd}
