-- find_deks.lua: what seals for a tenant, as of one moment.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 data keys (hash: id → wrapped)
-- ARGV  none
-- Returns {dek_id, shredded_at_ms, {id, wrapped, …}}; false for none.
assert(#KEYS == 2 and #ARGV == 0, 'find_deks: wrong arguments')
local dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'dek_id', 'shredded_at_ms'))
return {dek_id, shredded_at_ms, redis.call('HGETALL', KEYS[2])}
