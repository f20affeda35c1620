-- semaphore_renew: give permits a new time to live, if this owner still has them.
--
-- KEYS[1]  permits key
-- KEYS[2]  fence key, which must outlive the permits
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  how many they are
-- Returns  1 when renewed, 0 when this owner does not have them
-- Retry    safe: a repetition sets the same time again
local permits, ttl, member = KEYS[1], ARGV[2], ARGV[3] .. ' ' .. ARGV[1]
local call = redis.call
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
-- A full server lets a script write whose first write frees something.
call('ZREMRANGEBYSCORE', permits, '-inf', ms)
if not call('ZSCORE', permits, member) then return 0 end
call('ZADD', permits, ms + ttl, member)
if call('PTTL', permits) < ttl + 100 then call('PEXPIRE', permits, ttl + 100) end
call('PEXPIRE', KEYS[2], '172800000')
return 1
