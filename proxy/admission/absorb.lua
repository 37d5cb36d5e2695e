-- absorb.lua: what the operator bears of dearer fallbacks on one day: hold an amount for a run, or settle it.
-- KEYS  1 day (hash: held_nusd, spent_nusd, and run:ID, what that run holds)
-- ARGV  1 run id   2 nusd: the whole amount, so that a repeat adds nothing   3 cap_nusd, or '' to settle
-- Returns {1} done; {0} it would go beyond the cap, and nothing has changed.
-- Invariant: held_nusd is the sum of all run:ID; a hold never makes spent + held exceed the cap. A hold of what is held
-- and a settlement of a run that holds nothing change nothing, so that both can be repeated.
local KEPT_S = 3 * 24 * 3600
local day, run = KEYS[1], 'run:' .. ARGV[1]
assert(#KEYS == 1 and #ARGV == 3, 'absorb: wrong number of arguments')

local function whole(text, name)
  local number = tonumber(text)
  assert(number and number >= 0 and number < 2^53 and number == math.floor(number), name .. ' out of range')
  return number
end

local function add(field, nusd) redis.call('HINCRBY', day, field, string.format('%.0f', nusd)) end

local nusd, is_hold = whole(ARGV[2], 'nusd'), ARGV[3] ~= ''
local cap_nusd = is_hold and whole(ARGV[3], 'cap_nusd')
local before, held, spent = unpack(redis.call('HMGET', day, run, 'held_nusd', 'spent_nusd'))
local more_nusd = nusd - tonumber(before or '0')
if is_hold then
  if before and more_nusd == 0 then return {1} end
  if more_nusd > 0 and tonumber(spent or '0') + tonumber(held or '0') + more_nusd > cap_nusd then return {0} end
  add(run, more_nusd)
  add('held_nusd', more_nusd)
else
  if not before then return {1} end
  redis.call('HDEL', day, run)
  add('held_nusd', 0 - tonumber(before))  -- a minus sign before what may be 0 would make -0, which is no integer
  add('spent_nusd', nusd)
end
redis.call('EXPIRE', day, KEPT_S)
return {1}
