-- quorum_renew: give the lease a new time to live on this server, if this owner has it there under this ballot.
--
-- KEYS[1]  lease key, as in quorum_acquire
-- KEYS[2]  fence key, as in quorum_acquire; it must outlive the lease
-- KEYS[3]  marker, as in quorum_birth
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  ballot, 16 digits
-- Returns  {1} when renewed; {0} when this owner does not have it so; {-3, us until it votes} in quarantine; {-4} without a marker.
--          Numbers may come as strings
-- Retry    safe: a repetition sets the same time again
local owner, ballot = ARGV[1], ARGV[3]
local found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local holder, last, marker = found[1], found[2], found[3]
if not marker then return {-4} end
-- A renewal is a vote like any other.
local time = redis.call('TIME')
local now = time[1] .. string.sub('00000', #time[2]) .. time[2]
local votes = string.sub(marker, 42, 57)
if now < votes then return {-3, string.format('%.0f', votes - now)} end
if holder ~= owner and holder ~= '~' .. owner then return {0} end
if not last or string.match(last, '%d+') ~= ballot then return {0} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], '172800000')
return {1}
