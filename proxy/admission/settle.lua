-- settle.lua: turn one reservation into spend and its row in the ledger, exactly once. Stands behind reservation.lua.
-- KEYS  1 run (hash)
-- ARGV  1 cost_nusd   2 tokens used, or -1: not known   3 row
--       4 adjustment: the row of a late settlement, which corrects one that expired; "" until it is asked for
--       5 touched, JSON as in admit.lua: where to post if the store knows nothing of the run any more; "" to post
--       nothing then
-- Returns {code, cost_nusd, held_nusd}: what is charged now, and what was held. Codes: 0 unknown, 1 settled,
--   2 already settled (its cost stays; -1 where only its row is left), 3 released, 4 corrected, 5 denied, 6 posted,
--   7 expired: nothing has changed, call again with the adjustment.
-- Invariant: a reservation has one terminal effect; what is charged goes to the periods that held it, never to today's.
local UNKNOWN, SETTLED, ALREADY_SETTLED, RELEASED, CORRECTED, DENIED, POSTED, EXPIRED = 0, 1, 2, 3, 4, 5, 6, 7
local run, row, adjustment = KEYS[1], ARGV[3], ARGV[4]
assert(#KEYS == 1 and #ARGV == 5, 'settle: wrong number of arguments')
local cost_nusd = whole(ARGV[1], 'cost_nusd')
local tokens = ARGV[2] ~= '-1' and whole(ARGV[2], 'tokens') or nil
assert(not tokens or tokens * 60000000 < 2^53, 'settle: tokens out of range')
local member = member_of(run)
local row_id = row_id_of(member)
local state, held, expected, touched, cost = unpack(call('HMGET', run, 'state', 'held', 'tokens', 'touched', 'cost'))

local function finish(code, held_nusd)
  call('DEL', run)  -- made anew it takes a third of the memory that a hash keeps which once held a row
  call('HSET', run, 'state', 'settled', 'cost', cost_nusd, 'held', held_nusd)
  call('PEXPIRE', run, TOMBSTONE_MS)
  return {code, cost_nusd, held_nusd}
end

if state == 'settled' then return {ALREADY_SETTLED, tonumber(cost), tonumber(held)} end
if state == 'released' then return {RELEASED, 0, 0} end
if state == 'denied' then return {DENIED, 0, 0} end

if state == 'pending' then
  local held_nusd, expected_tokens = tonumber(held), tonumber(expected)
  append(row_id, row)
  close(cjson.decode(touched), held_nusd, cost_nusd, expected_tokens, tokens or expected_tokens)
  call('ZREM', leases, member)
  return finish(SETTLED, held_nusd)
end

if state == 'expired' then  -- charged at its worst case when the lease ran out; now the truth is known
  local held_nusd, expected_tokens = tonumber(held), tonumber(expected)
  if adjustment == '' then return {EXPIRED, 0, held_nusd} end
  append(row_id .. ':adjustment', adjustment)
  post_late(cjson.decode(touched), cost_nusd - held_nusd, expected_tokens, tokens or expected_tokens)
  return finish(CORRECTED, held_nusd)
end

if call('ZSCORE', prefix .. 'ledger-positions', row_id) then return {ALREADY_SETTLED, -1, -1} end
if ARGV[5] == '' then return {UNKNOWN, 0, 0} end
local lost = cjson.decode(ARGV[5])
append(row_id, row)
post_late(lost, cost_nusd, 0, 0)
return finish(POSTED, 0)
