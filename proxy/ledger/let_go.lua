-- let_go.lua: give back the right to export one tenant's rows.
-- KEYS  1 cursor (hash, see claim.lua)
-- ARGV  1 fence
-- Returns 1 given back, 0 nothing: the right has changed hands.
assert(#KEYS == 1 and #ARGV == 1, 'let_go: wrong number of arguments')
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'claimed_until_ms')
return 1
