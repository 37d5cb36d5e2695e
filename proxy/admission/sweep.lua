-- sweep.lua: expire leases of one tenant that have run out. Stands behind reservation.lua.
-- KEYS  1 leases (sorted set)
-- ARGV  1 how many at most: a script holds all of Redis up while it runs
-- Returns {how many expired, how many leases are left}.
assert(#KEYS == 1 and KEYS[1] == leases and #ARGV == 1, 'sweep: wrong arguments')
local at_most = whole(ARGV[1], 'at_most')
local expired = expire(at_most)
return {expired, call('ZCARD', leases)}
