-- purge.lua: give nothing out any more whose provider was asked before an instant.
-- KEYS  1 cache (hash: purged, purged:ALIAS)
-- ARGV  1 alias, or "" for all models   2 before_ms   3 aliases_max: with one more model, all are purged
-- Returns the instant that holds now.
-- Invariant: an instant only grows.
assert(#KEYS == 1 and #ARGV == 3 and tonumber(ARGV[2]), 'purge: wrong arguments')
local field = 'purged'
if ARGV[1] ~= '' then
  field = 'purged:' .. ARGV[1]
  if redis.call('HEXISTS', KEYS[1], field) == 0 then
    local others = redis.call('HEXISTS', KEYS[1], 'secret') + redis.call('HEXISTS', KEYS[1], 'purged')
    if redis.call('HLEN', KEYS[1]) - others >= tonumber(ARGV[3]) then field = 'purged' end
  end
end
local before_ms = math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0'), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], field, string.format('%.0f', before_ms))
return before_ms
