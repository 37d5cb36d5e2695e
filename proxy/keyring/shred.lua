-- shred.lua: delete all that a tenant's keyring holds, and leave a tombstone for ever.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 data keys   3 provider keys   4 past
-- ARGV  1 at_ms
-- Returns when the tenant was shredded first, in ms (a string).
assert(#KEYS == 4 and #ARGV == 1 and tonumber(ARGV[1]), 'shred: wrong arguments')
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
redis.call('HDEL', KEYS[1], 'dek_id')
if redis.call('HSETNX', KEYS[1], 'shredded_at_ms', ARGV[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'epoch', 1) end
return redis.call('HGET', KEYS[1], 'shredded_at_ms')
