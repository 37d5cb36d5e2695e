-- claim.lua: the entry of this name; where there is none, claim it for who asks.
-- KEYS  1 entry (string)   2 claim (string)
-- ARGV  1 run_id   2 claim_ms   3 data_bytes_max
-- Returns the entry; 1: claimed by this run, now or before; 0: claimed by another; -1: what is there is no entry, or
--   longer than one can be.
assert(#KEYS == 2 and #ARGV == 3 and tonumber(ARGV[2]) > 0 and tonumber(ARGV[3]), 'claim: wrong arguments')
local size_bytes = redis.pcall('STRLEN', KEYS[1])
if type(size_bytes) ~= 'number' or size_bytes > tonumber(ARGV[3]) then return -1 end
local entry = redis.call('GET', KEYS[1])
if entry then return entry end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.pcall('GET', KEYS[2]) == ARGV[1] and 1 or 0
