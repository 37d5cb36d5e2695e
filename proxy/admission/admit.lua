-- admit.lua: check every limit and cap of every scope, and reserve all of it, or nothing.
-- Stands behind reservation.lua.
-- KEYS  1 run (hash)   2 leases (sorted set: RUN:STEP → lease until, ms)   3 epoch (string)
--       4 revoked virtual keys (hash)   then each scope's counters (hash), in the order of `touched`
-- ARGV  1 mode: "admit", or "restore": put back a reservation, or what it grew by, that the store lost; nothing is checked
--       2 epoch that the process knows   3 virtual key id, or ""   4 held_nusd   5 expected_tokens   6 lease_ms
--       7 from_ms   8 until_ms: the moments between which every window holds
--       9 touched, JSON: [[scope, tokens_per_minute or 0, [period, …]], …]: kept until the end, which posts to it
--       10 checks, JSON: [[requests increment_us, capacity_us, tokens increment_us, capacity_us, max_concurrency,
--          [[period, cap_nusd, is_rolling], …]], …], -1 where there is none
--       11 row: what the ledger gets if the lease runs out
-- Returns {0} wrong epoch; {1, now_us, is_repeat, then for each scope requests tat_us, tokens tat_us, what each
--   window has spent and held; last, how often the tenant's stored provider keys have changed}; {2, state} already ended; {3, now_ms} wrong window; {4} revoked;
--   {5, scope, window, cap, spent, held, needed, resets_at_ms or -1}; {6, scope, limit, retry_after_ms}.
--   A limit is 0 concurrency, 1 requests, 2 tokens.
-- Invariant: no admission makes spent + held exceed a cap. A repeat with the same run and step gets the same answer.
local WRONG_EPOCH, ADMITTED, KNOWN, WRONG_WINDOW, REVOKED, CAP, LIMIT = 0, 1, 2, 3, 4, 5, 6
local DENIED_TOMBSTONE_MS, CONCURRENCY_RETRY_MS, SWEPT_MAX = 10000, 1000, 8

local run, mode, row = KEYS[1], ARGV[1], ARGV[11]
assert(#ARGV == 11 and (mode == 'admit' or mode == 'restore'), 'admit: wrong arguments')
local held_nusd, expected_tokens = whole(ARGV[4], 'held_nusd'), whole(ARGV[5], 'expected_tokens')
local lease_ms, from_ms, until_ms = whole(ARGV[6], 'lease_ms'), whole(ARGV[7], 'from_ms'), whole(ARGV[8], 'until_ms')
local touched, checks = cjson.decode(ARGV[9]), cjson.decode(ARGV[10])
assert(#touched == #KEYS - 4 and #checks == #touched, 'admit: a scope without its counters or checks')
assert(expected_tokens * 60000000 < 2^53 and lease_ms > 0, 'admit: tokens or lease out of range')
for s, entry in ipairs(touched) do
  assert(KEYS[4 + s] == prefix .. 'use:' .. entry[1], 'admit: counters of another scope')
  for _, window in ipairs(checks[s][6]) do
    assert(window[2] == -1 or whole(window[2], 'cap_nusd') + held_nusd < 2^53, 'admit: cap_nusd out of range')
  end
end

if mode == 'admit' and call('GET', KEYS[3]) ~= ARGV[2] then return {WRONG_EPOCH} end
if mode == 'admit' then expire(SWEPT_MAX) end

local scopes = {}
local function read_all()
  for s = 1, #touched do scopes[s] = read_scope(KEYS[4 + s], checks[s][6]) end
end

local function admitted(is_repeat)
  local answer = {ADMITTED, now_us, is_repeat}
  for s, scope in ipairs(scopes) do
    answer[#answer + 1], answer[#answer + 2] = scope.r, scope.t
    for w = 1, #checks[s][6] do answer[#answer + 1] = scope.used[w].spent + scope.used[w].held end
  end
  answer[#answer + 1] = tonumber(call('HGET', prefix .. 'keyring', 'epoch') or '0')
  return answer
end

local state, denial, before = unpack(call('HMGET', run, 'state', 'denial', 'held'))
if state == 'pending' then
  -- A replica that was promoted may know only what was held before it grew.
  if mode == 'restore' and held_nusd > tonumber(before) then hold_more(run, touched, tonumber(before), held_nusd, row) end
  read_all()
  return admitted(1)
end
if state == 'denied' then return cmsgpack.unpack(denial) end
if state then return {KNOWN, state} end

local function conforms(tat_us, increment_us, capacity_us)  -- a full bucket admits any one request
  return increment_us < 0 or tat_us <= now_us or tat_us + increment_us - now_us <= capacity_us
end

local function wait_ms(tat_us, increment_us, capacity_us)
  return math.ceil(math.min(tat_us - now_us, tat_us + increment_us - capacity_us - now_us) / 1000)
end

-- The limit that is met: concurrency first, else the bucket that takes longest to come free; or nil.
local function met_limit()
  for s, check in ipairs(checks) do
    if check[5] >= 0 and scopes[s].n >= check[5] then return {LIMIT, s - 1, 0, CONCURRENCY_RETRY_MS} end
  end
  local longest = nil
  for s, check in ipairs(checks) do
    for limit, tat_us in ipairs({scopes[s].r, scopes[s].t}) do
      local increment_us, capacity_us = check[2 * limit - 1], check[2 * limit]
      if not conforms(tat_us, increment_us, capacity_us) then
        local retry_after_ms = wait_ms(tat_us, increment_us, capacity_us)
        if not longest or retry_after_ms > longest[4] then longest = {LIMIT, s - 1, limit, retry_after_ms} end
      end
    end
  end
  return longest
end

if mode == 'admit' and (now_ms < from_ms or now_ms >= until_ms) then return {WRONG_WINDOW, now_ms} end
read_all()
if mode == 'admit' then
  if ARGV[3] ~= '' and call('HEXISTS', KEYS[4], ARGV[3]) == 1 then return {REVOKED} end
  local refusal = first_cap(checks, scopes, held_nusd)
  if refusal then table.insert(refusal, 1, CAP) else refusal = met_limit() end
  if refusal then
    call('HSET', run, 'state', 'denied', 'denial', cmsgpack.pack(refusal))
    call('PEXPIRE', run, DENIED_TOMBSTONE_MS)
    return refusal
  end
end

-- ── nothing is refused any more: write ─────────────────────────────────────────────────────────────────────────────

local function prune(use)  -- what no window can ask for any more
  local flat, amounts, pruned = call('HGETALL', use), {}, {}
  for i = 1, #flat, 2 do amounts[flat[i]] = flat[i + 1] end
  for field in pairs(amounts) do
    local period = string.match(field, '^([hdm]%d+):[sh]$')
    if period and is_over(period) and (amounts[period .. ':h'] or '0') == '0' and #pruned < PRUNED_MAX then pruned[#pruned + 1] = field end
  end
  if #pruned > 0 then call('HDEL', use, unpack(pruned)) end
end

call('HSET', run, 'state', 'pending', 'held', held_nusd, 'tokens', expected_tokens,
  'touched', ARGV[9], 'row', row)
for s, entry in ipairs(touched) do
  local use, scope, check = KEYS[4 + s], scopes[s], checks[s]
  local is_new = false
  for _, used in ipairs(scope.used) do
    is_new = is_new or used.is_new
    used.held = used.held + held_nusd
  end
  if mode == 'admit' and check[1] >= 0 then scope.r = math.max(scope.r, now_us) + check[1] end
  if mode == 'admit' and check[3] > 0 then scope.t = math.max(scope.t, now_us) + check[3] end
  call('HSET', use, 'r', scope.r, 't', scope.t, 'n', scope.n + 1)
  if scope.n == 0 then call('PERSIST', use) end
  for _, period in ipairs(entry[3]) do add(use, period .. ':h', held_nusd) end
  if is_new and held_nusd > 0 then prune(use) end
end
call('ZADD', leases, now_ms + lease_ms, member_of(run))
return admitted(0)
