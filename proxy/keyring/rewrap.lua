-- rewrap.lua: the same data key, as another KEK wrapped it.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 data keys (hash: id → wrapped)
-- ARGV  1 id   2 wrapped   3 the ciphertext that is replaced, as the entry has it
-- Returns 1 done, 0 another ciphertext is there, or none, -1 the tenant was shredded.
assert(#KEYS == 2 and #ARGV == 3, 'rewrap: wrong arguments')
if redis.call('HGET', KEYS[1], 'shredded_at_ms') then return -1 end
local before = redis.call('HGET', KEYS[2], ARGV[1])
if not before or cjson.decode(before).wrapped ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
