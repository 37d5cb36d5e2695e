-- announce.lua: put a tenant into the index of those with leases, or take one out that has been idle.
-- KEYS  1 a shard of the index (sorted set: tenant → when it was last announced, ms)
-- ARGV  1 tenant   2 "" to announce it; else it goes if it was last announced so many ms ago, or more
-- Returns 1 if it is in the index now, else 0.
assert(#KEYS == 1 and #ARGV == 2 and ARGV[1] ~= '', 'announce: wrong arguments')
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[2] == '' then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), ARGV[1])
  return 1
end
local idle_ms = assert(tonumber(ARGV[2]), 'announce: idle_ms is no number')
local announced_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if announced_ms and now_ms - tonumber(announced_ms) < idle_ms then return 1 end
redis.call('ZREM', KEYS[1], ARGV[1])
return 0
