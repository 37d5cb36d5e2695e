-- hit.lua: let a kept answer be given out: take its request buckets and write its row, or say why not.
-- Stands behind common.lua.
-- KEYS  1 keyring (hash)   2 revoked virtual keys (hash)   3 cache (hash: purged, purged:ALIAS)
--       then each scope's counters (hash)
-- ARGV  1 run id   2 virtual key id, or ""   3 alias   4 asked_at_ms: when the provider was asked for what is kept
--       5 row   then for each scope requests increment_us, capacity_us
-- Returns {0, now_us, each scope's requests tat_us}; {1} shredded; {2} revoked; {3} purged, or of the future;
--   {4, scope, retry_after_ms}: its requests of this minute are used up.
-- Invariant: nothing is held and nothing spent; a repeat with the same run takes nothing and adds no row.
local ADMITTED, SHREDDED, REVOKED, PURGED, LIMIT = 0, 1, 2, 3, 4
local SCOPES_AT = 3
local CLOCKS_APART_MS = 5000
assert(#KEYS >= SCOPES_AT and #ARGV == 5 + 2 * (#KEYS - SCOPES_AT), 'hit: wrong arguments')
local run_id, asked_at_ms = ARGV[1], whole(ARGV[4], 'asked_at_ms')

if call('HEXISTS', KEYS[1], 'shredded_at_ms') == 1 then return {SHREDDED} end
if ARGV[2] ~= '' and call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return {REVOKED} end
if asked_at_ms > now_ms + CLOCKS_APART_MS then return {PURGED} end
for _, before_ms in ipairs(call('HMGET', KEYS[3], 'purged', 'purged:' .. ARGV[3])) do
  if before_ms and asked_at_ms < tonumber(before_ms) then return {PURGED} end
end

local answer, scopes = {ADMITTED, now_us}, {}
for s = 1, #KEYS - SCOPES_AT do
  local use = KEYS[SCOPES_AT + s]
  assert(string.sub(use, 1, #prefix + 4) == prefix .. 'use:', 'hit: counters of another tenant')
  local tat_us, pending, total, tokens_tat_us = unpack(call('HMGET', use, 'r', 'n', 't:s', 't'))
  scopes[s] = {use = use, r = tonumber(tat_us or '0'), n = tonumber(pending or '0'), t = tokens_tat_us,
    stays = (total or '0') ~= '0',  -- what has spent of a total was told to stay when it did
    increment_us = whole(ARGV[4 + 2 * s], 'increment_us'), capacity_us = whole(ARGV[5 + 2 * s], 'capacity_us')}
  answer[2 + s] = scopes[s].r
end
if has_row(run_id) then return answer end

local refusal = nil
for s, scope in ipairs(scopes) do
  if scope.r > now_us and scope.r + scope.increment_us - now_us > scope.capacity_us then
    local wait_us = math.min(scope.r - now_us, scope.r + scope.increment_us - scope.capacity_us - now_us)
    local retry_after_ms = math.ceil(wait_us / 1000)
    if not refusal or retry_after_ms > refusal[3] then refusal = {LIMIT, s - 1, retry_after_ms} end
  end
end
if refusal then return refusal end

append_new(run_id, ARGV[5])
for s, scope in ipairs(scopes) do
  answer[2 + s] = math.max(scope.r, now_us) + scope.increment_us
  call('HSET', scope.use, 'r', answer[2 + s])
  if scope.n == 0 and not scope.stays then
    local periods = {}
    for _, field in ipairs(call('HKEYS', scope.use)) do
      local period = string.match(field, '^([hdm]%d+):[sh]$')
      if period then periods[#periods + 1] = period end
    end
    keep_for(scope.use, periods, {answer[2 + s], scope.t})
  end
end
return answer
