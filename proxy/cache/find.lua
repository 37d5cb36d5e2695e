-- find.lua: the entry of this name.
-- KEYS  1 entry (string)
-- ARGV  1 data_bytes_max
-- Returns the entry; nil: there is none; -1: what is there is no entry, or longer than one can be.
assert(#KEYS == 1 and #ARGV == 1 and tonumber(ARGV[1]), 'find: wrong arguments')
local size_bytes = redis.pcall('STRLEN', KEYS[1])
if type(size_bytes) ~= 'number' or size_bytes > tonumber(ARGV[1]) then return -1 end
return redis.call('GET', KEYS[1])
