-- activate.lua: put a version of a provider key in the place of the active one, or of none; or nothing in its place.
-- KEYS  1 keyring (hash: epoch, dek_id, shredded_at_ms)   2 provider keys (hash: slot → record)
--       3 past (list of what is left of ended versions, newest first)
-- ARGV  1 slot   2 record, "" to delete   3 the data key that must be current, "" for any
--       4 the active version that is replaced, as credential:version, "" for none   5 what is left of it, or ""
--       6 how many ended versions are remembered
-- Returns 1 done (the epoch grew), 0 another version or data key is there, -1 the tenant was shredded.
assert(#KEYS == 3 and #ARGV == 6, 'activate: wrong arguments')
local past_max = assert(tonumber(ARGV[6]), 'activate: past_max is no number')
local dek_id, shredded_at_ms = unpack(redis.call('HMGET', KEYS[1], 'dek_id', 'shredded_at_ms'))
if shredded_at_ms then return -1 end
if ARGV[3] ~= '' and dek_id ~= ARGV[3] then return 0 end
local active, version = redis.call('HGET', KEYS[2], ARGV[1]), ''
if active then
  local fields = cjson.decode(active)
  version = fields.credential_id .. ':' .. string.format('%d', fields.version)
end
if version ~= ARGV[4] then return 0 end
if ARGV[5] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[5])
  redis.call('LTRIM', KEYS[3], 0, past_max - 1)
end
if ARGV[2] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return 1
