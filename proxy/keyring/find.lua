-- find.lua: everything that one call needs of a tenant's keyring, as of one moment.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 provider keys (hash: slot → record)
--       3 data keys (hash: id → wrapped)
-- ARGV  1 the user's slot, "" for none   2 the tenant's slot   3 how many slots are told at most
-- Returns {epoch, dek_id, shredded_at_ms, the user's record, the tenant's record, {id, wrapped, …}, {slot, …}}; false
--   for none, and for more slots than that.
assert(#KEYS == 3 and #ARGV == 3 and ARGV[2] ~= '', 'find: wrong arguments')
local slots_max = assert(tonumber(ARGV[3]), 'find: slots_max is no number')
local epoch, dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'dek_id', 'shredded_at_ms'))
local own, shared = unpack(redis.call('HMGET', KEYS[2], ARGV[1], ARGV[2]))
local slots = redis.call('HLEN', KEYS[2]) <= slots_max and redis.call('HKEYS', KEYS[2])
return {epoch, dek_id, shredded_at_ms, own, shared, redis.call('HGETALL', KEYS[3]), slots}
