-- secret.lua: a tenant's secret; this one, where there is none yet.
-- KEYS  1 cache (hash)
-- ARGV  1 fresh
-- Returns the secret.
assert(#KEYS == 1 and #ARGV == 1 and #ARGV[1] == 32, 'secret: wrong arguments')
redis.call('HSETNX', KEYS[1], 'secret', ARGV[1])
return redis.call('HGET', KEYS[1], 'secret')
