-- append.lua: add rows to one tenant's ledger, each at most once.
-- KEYS  1 rows (stream: id position-0, field "row")   2 positions (sorted set: run id → position)
--       3 last position (counter)
-- ARGV  1 announced: "1" if the caller has put the tenant into the index of ledgers, else "0"
--       then pairs: run id, row
-- Returns how many rows were added; -1, and nothing is written, where this is the tenant's first
-- row and it is not announced: the index may name a ledger too many, never one too few.
-- Invariant: a run id stands in `positions` if its row was added, until some time after it was exported;
-- positions only grow.
local rows, positions, last_position = KEYS[1], KEYS[2], KEYS[3]
assert(#KEYS == 3 and #ARGV >= 3 and #ARGV % 2 == 1, 'append: wrong number of arguments')
assert(ARGV[1] == '0' or ARGV[1] == '1', 'append: announced is 0 or 1')
local last = redis.call('GET', last_position)
if not last and ARGV[1] == '0' then return -1 end
assert(tonumber(last or '0') < 2^53 - #ARGV, 'append: position out of range')
local added = 0
for i = 2, #ARGV, 2 do
  if not redis.call('ZSCORE', positions, ARGV[i]) then
    local position = redis.call('INCR', last_position)
    local decimal = string.format('%d', position)
    redis.call('ZADD', positions, decimal, ARGV[i])
    redis.call('XADD', rows, decimal .. '-0', 'row', ARGV[i + 1])
    added = added + 1
  end
end
-- advance.lua lets it go where nothing was left to export. Not before the first row: once a script has written
-- something that needs no memory, Redis refuses none of its writes any more, however full it is.
if added > 0 then redis.call('PERSIST', positions) end
return added
