-- extend.lua: the heart-beat: move the leases of a tenant's reservations on. Stands behind reservation.lua.
-- KEYS  1 leases (sorted set)
-- ARGV  1 lease_ms   then RUN:STEP of each reservation
-- Returns those that are no longer pending.
-- A lease that has run out is moved on as well while nobody has expired it: the reservation is still whole.
assert(#KEYS == 1 and #ARGV >= 2, 'extend: wrong number of arguments')
local lease_ms = whole(ARGV[1], 'lease_ms')
assert(lease_ms > 0, 'extend: lease_ms out of range')
local lease_until, gone = now_ms + lease_ms, {}
for i = 2, #ARGV do
  if call('ZSCORE', KEYS[1], ARGV[i]) then
    call('ZADD', KEYS[1], 'XX', lease_until, ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
