-- end.lua: a tenant's end: give out nothing that was asked for up to now, or a while from now, and forget its secret.
-- KEYS  1 cache (hash: secret, purged, purged:ALIAS)
-- ARGV  1 ahead_ms
-- Returns the instant that holds now.
-- Invariant: an instant only grows.
assert(#KEYS == 1 and #ARGV == 1 and tonumber(ARGV[1]) >= 0, 'end: wrong arguments')
local time = redis.call('TIME')
local ends_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
local before_ms = math.max(tonumber(redis.call('HGET', KEYS[1], 'purged') or '0'), ends_ms)
redis.call('HSET', KEYS[1], 'purged', string.format('%.0f', before_ms))
redis.call('HDEL', KEYS[1], 'secret')
return before_ms
