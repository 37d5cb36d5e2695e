-- absorb.lua: what the operator bears of dearer fallbacks on one day: hold an amount for a run, or settle it.
-- KEYS  1 day (hash: held_nusd, spent_nusd, and run:ID, what that run holds)
-- ARGV  1 run id   2 nusd   3 cap_nusd, or '' to settle
-- Returns {1} done; {0} it would go beyond the cap, and nothing has changed.
-- Invariant: held_nusd is the sum of all run:ID; a hold never makes spent + held exceed the cap. A settlement of a run
-- that holds nothing changes nothing, so that both can be repeated.
local day, field, kept_s = KEYS[1], 'run:' .. ARGV[1], 259200
local nusd, cap_nusd = tonumber(ARGV[2]), tonumber(ARGV[3])
assert(nusd and nusd >= 0 and nusd < 2^53, 'absorb: nusd out of range')
local before = redis.call('HGET', day, field)
if cap_nusd then
  local held_nusd = tonumber(redis.call('HGET', day, 'held_nusd') or '0')
  local spent_nusd = tonumber(redis.call('HGET', day, 'spent_nusd') or '0')
  local more_nusd = nusd - tonumber(before or '0')
  if more_nusd > 0 and spent_nusd + held_nusd + more_nusd > cap_nusd then return {0} end
  redis.call('HINCRBY', day, field, string.format('%.0f', more_nusd))
  redis.call('HINCRBY', day, 'held_nusd', string.format('%.0f', more_nusd))
elseif before then
  redis.call('HDEL', day, field)
  redis.call('HINCRBY', day, 'held_nusd', '-' .. before)
  redis.call('HINCRBY', day, 'spent_nusd', string.format('%.0f', nusd))
end
redis.call('EXPIRE', day, kept_s)
return {1}
