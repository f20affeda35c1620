-- election_renew: give the lease of a leader a new time to live, if this owner still has it.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key, which must outlive the lease
-- KEYS[3]  term key, which must too
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- Returns  1 when renewed, 0 when this owner does not have it
-- Retry    safe: a repetition sets the same time again
local value, owner = redis.call('GET', KEYS[1]), ARGV[1]
if value ~= owner and value ~= '~' .. owner and value ~= '~~' .. owner then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], '172800000')
redis.call('PEXPIRE', KEYS[3], '172800000')
return 1
