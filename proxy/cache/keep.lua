-- keep.lua: keep an entry, in the place of one that is there, and end the claim of who kept it.
-- KEYS  1 entry (string)   2 claim (string)
-- ARGV  1 data   2 ttl_ms   3 run_id, or ""
-- Returns 1; an error where there is no room for it.
-- Invariant: the claim ends whatever becomes of the entry. It ends behind it: once a script has written, Redis lets it
-- write beyond maxmemory.
assert(#KEYS == 2 and #ARGV == 3 and tonumber(ARGV[2]) > 0, 'keep: wrong arguments')
local kept = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' and redis.pcall('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
if kept.err then return kept end
return 1
