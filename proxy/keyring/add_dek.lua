-- add_dek.lua: keep a wrapped data key, and make it the current one.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 data keys (hash: id → wrapped)
-- ARGV  1 id   2 wrapped   3 the id of the current one that it follows, "" for none
-- Returns 1 done (the epoch grew), 0 another one is current, -1 the tenant was shredded.
assert(#KEYS == 2 and #ARGV == 3 and ARGV[1] ~= '', 'add_dek: wrong arguments')
local dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'dek_id', 'shredded_at_ms'))
if shredded_at_ms then return -1 end
if (dek_id or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], 'dek_id', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return 1
