-- epoch.lua: name the store's present life, unless somebody else has done so.
-- KEYS  1 epoch (string), the one that spans tenants
-- ARGV  1 the epoch that the process saw, "" for none   2 a fresh one
-- Returns the epoch in force: the fresh one, or what another process put there meanwhile.
assert(#KEYS == 1 and #ARGV == 2 and ARGV[2] ~= '', 'epoch: wrong arguments')
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
