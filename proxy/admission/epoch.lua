-- epoch.lua: name the store's present life, unless somebody else has done so.
-- KEYS  1 epoch (string), the one that spans tenants
-- ARGV  1 the epoch that the process saw, "" for none   2 a fresh one
-- Returns the epoch in force: the fresh one with the moment at which it began (".MS"), or what another process put
--   there meanwhile.
assert(#KEYS == 1 and #ARGV == 2 and ARGV[2] ~= '', 'epoch: wrong arguments')
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return current end
local time = redis.call('TIME')
local fresh = ARGV[2] .. string.format('.%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('SET', KEYS[1], fresh)
return fresh
