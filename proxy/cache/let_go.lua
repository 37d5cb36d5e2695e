-- let_go.lua: end a claim, if this run has it.
-- KEYS  1 claim (string)
-- ARGV  1 run_id
-- Returns 1: ended; 0: it is another's, or over.
assert(#KEYS == 1 and #ARGV == 1 and ARGV[1] ~= '', 'let_go: wrong arguments')
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
