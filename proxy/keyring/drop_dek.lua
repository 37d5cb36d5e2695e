-- drop_dek.lua: delete a data key that seals nothing any more.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 data keys (hash: id → wrapped)
-- ARGV  1 id
-- Returns 1 done (the epoch grew), 0 there is none or it is the current one, -1 the tenant was shredded.
assert(#KEYS == 2 and #ARGV == 1, 'drop_dek: wrong arguments')
local dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'dek_id', 'shredded_at_ms'))
if shredded_at_ms then return -1 end
if dek_id == ARGV[1] or redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return 1
