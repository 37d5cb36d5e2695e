-- reseal.lua: the same secret in another envelope, under the data key that is current.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 provider keys (hash: slot → record)
-- ARGV  1 slot   2 record   3 its data key   4 the envelope that is replaced, as the record has it
-- Returns 1 done, 0 another envelope or data key is there, -1 the tenant was shredded.
assert(#KEYS == 2 and #ARGV == 4, 'reseal: wrong arguments')
local dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'dek_id', 'shredded_at_ms'))
if shredded_at_ms then return -1 end
local active = redis.call('HGET', KEYS[2], ARGV[1])
if dek_id ~= ARGV[3] or not active or cjson.decode(active).envelope ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
