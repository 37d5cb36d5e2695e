-- claim.lua: the entry of this name; where there is none, claim it for who asks.
-- KEYS  1 entry (string)   2 claim (string)
-- ARGV  1 run_id   2 claim_ms
-- Returns the entry; 1: claimed by this run, now or before; 0: claimed by another.
assert(#KEYS == 2 and #ARGV == 2 and tonumber(ARGV[2]) > 0, 'claim: wrong arguments')
local entry = redis.call('GET', KEYS[1])
if entry then return entry end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[2]) == ARGV[1] and 1 or 0
