-- release.lua: let a hold go without spend; one that comes first denies the late admission.
-- Stands behind reservation.lua.
-- KEYS  1 run (hash)
-- ARGV  none
-- Returns the code: 0 forestalled (the store knows no such reservation, and will admit none), 1 released,
--   2 already released, 3 settled, 4 expired (charged: only a settlement corrects it), 5 denied.
-- What was expected of the token bucket goes back; the request stays counted, for it was made.
local FORESTALLED, RELEASED, ALREADY_RELEASED, SETTLED, EXPIRED, DENIED = 0, 1, 2, 3, 4, 5
local run = KEYS[1]
assert(#KEYS == 1 and #ARGV == 0, 'release: wrong number of arguments')
local state, held, tokens, touched = unpack(call('HMGET', run, 'state', 'held', 'tokens', 'touched'))
if state == 'released' then return ALREADY_RELEASED end
if state == 'settled' then return SETTLED end
if state == 'expired' then return EXPIRED end
if state == 'denied' then return DENIED end
if state then
  close(cjson.decode(touched), tonumber(held), 0, tonumber(tokens), 0)
  call('ZREM', leases, member_of(run))
  call('DEL', run)
end
call('HSET', run, 'state', 'released')
call('PEXPIRE', run, TOMBSTONE_MS)
return state and RELEASED or FORESTALLED
