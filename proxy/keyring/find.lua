-- find.lua: everything that one call needs of a tenant's keyring, as of one moment.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 provider keys (hash: slot → record)
--       3 data keys (hash: id → wrapped)
-- ARGV  1 the user's slot, "" for none   2 the tenant's slot
-- Returns {epoch, dek_id, shredded_at_ms, the user's record, the tenant's record, {id, wrapped, …}}; false for none.
assert(#KEYS == 3 and #ARGV == 2 and ARGV[2] ~= '', 'find: wrong arguments')
local epoch, dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'dek_id', 'shredded_at_ms'))
local own, shared = unpack(redis.call('HMGET', KEYS[2], ARGV[1], ARGV[2]))
return {epoch, dek_id, shredded_at_ms, own, shared, redis.call('HGETALL', KEYS[3])}
