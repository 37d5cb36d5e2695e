-- claim.lua: take, or keep, the right to export one tenant's rows.
-- KEYS  1 cursor (hash: position, pages, hash, series, fence, holder, claimed_until_ms, and what advance.lua notes)
-- ARGV  1 holder   2 lease_ms
-- Returns {fence, position, pages, hash, series}, an absent field as false; a fence of 0 where another
-- holder's right has not run out yet.
-- Invariant: the fence grows each time the right changes hands, so that a holder who slept is known by its old one;
-- also in a store that was emptied meanwhile, since it is never below the time in ms.
local cursor, holder, lease_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
assert(#KEYS == 1 and #ARGV == 2 and holder ~= '', 'claim: wrong number of arguments')
assert(lease_ms and lease_ms > 0 and lease_ms < 2^40, 'claim: lease_ms out of range')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local held_by, until_ms, fence = unpack(redis.call('HMGET', cursor, 'holder', 'claimed_until_ms', 'fence'))
local is_held = held_by and tonumber(until_ms) > now_ms
local place = redis.call('HMGET', cursor, 'position', 'pages', 'hash', 'series')
if is_held and held_by ~= holder then return {0, unpack(place)} end
fence = tonumber(fence or '0')
assert(fence < 2^53 - 1, 'claim: fence out of range')
if not is_held then fence = math.max(fence + 1, now_ms) end
-- A write that needs no memory comes first: after it, Redis refuses no other one of this script because its memory is
-- full. Rows would otherwise have filled it for good.
redis.call('HDEL', cursor, 'holder')
redis.call('HSET', cursor, 'holder', holder, 'claimed_until_ms', string.format('%d', now_ms + lease_ms),
  'fence', string.format('%d', fence))
return {fence, unpack(place)}
