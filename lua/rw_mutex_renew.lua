-- rw_mutex_renew: give a reader's lease a new time to live, if this owner is still among the readers.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key, which must outlive the lease
-- KEYS[3]  readers key
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- Returns  1 when renewed, 0 when this owner is no reader
-- Retry    safe: a repetition sets the same time again
local lease, fence, readers, owner, ttl = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local call = redis.call
local value = call('GET', lease)
local last = call('ZSCORE', readers, owner)
if not value or not last or not string.find(value, '^~*%%') then return 0 end
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
if tonumber(last) <= ms then return 0 end
call('ZADD', readers, ms + ttl, owner)
if call('PTTL', lease) < tonumber(ttl) then
  call('PEXPIRE', lease, ttl)
  call('PEXPIRE', readers, ttl)
end
call('PEXPIRE', fence, '172800000')
return 1
