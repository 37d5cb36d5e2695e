-- probe.lua: see whether this server carries a script out that writes.
-- KEYS  1 probe (string), which spans tenants
-- ARGV  1 how long it is kept, ms
-- Returns when it was written, ms.
local kept_ms = tonumber(ARGV[1])
assert(#KEYS == 1 and #ARGV == 1 and kept_ms and kept_ms > 0, 'probe: wrong arguments')
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('SET', KEYS[1], now_ms, 'PX', kept_ms)
return now_ms
