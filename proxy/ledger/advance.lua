-- advance.lua: note that a page of one tenant's rows is in the sink, and let the rows go.
-- KEYS  1 cursor (hash, see claim.lua)   2 rows (stream)   3 positions (sorted set: run id → position)
-- ARGV  1 fence   2 pages before   3 position   4 pages   5 hash   6 series
--       7 the first stream id that stays   8 lease_ms   9 remember_ms   10 the most run ids to forget
--       then, where rows go, the last one's: 11 stream id   12 bytes
-- Returns 1 moved, 2 was there already (a repeat), 0 nothing: the right has changed hands, the cursor has moved, or
-- the last row is another one: the store has fallen back since the rows were read, and took new ones in their places.
-- Invariant: a row is gone from the stream only if it lies at or before the cursor's position. Its run id is
-- remembered for remember_ms at least, so that an append of unknown outcome that is repeated adds nothing.
local cursor, rows, positions = KEYS[1], KEYS[2], KEYS[3]
assert(#KEYS == 3 and (#ARGV == 10 or #ARGV == 12), 'advance: wrong number of arguments')
local lease_ms, remember_ms, forget_max = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
assert(tonumber(ARGV[3]) and tonumber(ARGV[3]) < 2^53 and tonumber(ARGV[4]), 'advance: cursor out of range')
assert(lease_ms and lease_ms > 0 and remember_ms and remember_ms >= 0 and forget_max and forget_max > 0,
  'advance: times out of range')
local fence, position, pages, hash = unpack(redis.call('HMGET', cursor, 'fence', 'position', 'pages', 'hash'))
if position == ARGV[3] and pages == ARGV[4] and hash == ARGV[5] then return 2 end
if fence ~= ARGV[1] or (pages or '0') ~= ARGV[2] then return 0 end
if ARGV[11] then
  local last = redis.call('XRANGE', rows, ARGV[11], ARGV[11])[1]
  if not last or last[2][2] ~= ARGV[12] then return 0 end
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- First, because it needs no memory: after it, Redis refuses no write of this script because its memory is full.
redis.call('XTRIM', rows, 'MINID', ARGV[7])
-- Two marks on the positions: `forgettable` lies remember_ms back at least, `forget_next` becomes it when due.
local forgettable, forget_next, due_ms = unpack(
  redis.call('HMGET', cursor, 'forgettable', 'forget_next', 'forget_due_ms'))
if now_ms >= tonumber(due_ms or '0') then
  forgettable = forget_next
  redis.call('HSET', cursor, 'forgettable', forgettable or '0', 'forget_next', ARGV[3],
    'forget_due_ms', string.format('%d', now_ms + remember_ms))
end
redis.call('HSET', cursor, 'position', ARGV[3], 'pages', ARGV[4], 'hash', ARGV[5], 'series', ARGV[6],
  'claimed_until_ms', string.format('%d', now_ms + lease_ms))
if forgettable and forgettable ~= '0' then
  local last = redis.call('ZRANGE', positions, forget_max - 1, forget_max - 1, 'WITHSCORES')
  if last[2] and tonumber(last[2]) <= tonumber(forgettable) then
    redis.call('ZREMRANGEBYRANK', positions, 0, forget_max - 1)
  else
    redis.call('ZREMRANGEBYSCORE', positions, '-inf', forgettable)
  end
end
-- A tenant that has gone quiet is not asked again: what is left of its run ids goes by itself. append.lua keeps it.
if redis.call('XLEN', rows) == 0 then
  redis.call('PEXPIRE', positions, string.format('%d', 2 * remember_ms + 1))
else
  redis.call('PERSIST', positions)
end
return 1
