-- rw_mutex_upgrade: turn the lease of the only reader into the writer's, before any writer who waits.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  readers key
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- Returns  {token, milliseconds left}; {0, how many other readers there are}: two who waited for each other to go would wait for ever;
--          {-1, 0} when this owner is no reader
-- Retry    safe: a repetition finds the writer and answers the same
local lease, fence, readers, owner, ttl = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local queue = nil
local call = redis.call
local now = call('TIME')
-- include lock_queue
local value = call('GET', lease) or ''
if value == owner or value == '~' .. owner or value == '~~' .. owner then
  return {string.match(call('GET', fence), '%d+'), call('PTTL', lease)}
end
local last = string.find(value, '^~*%%') and call('ZSCORE', readers, owner)
if not last or tonumber(last) <= ms then return {-1, 0} end
local others = call('ZCOUNT', readers, ms + 1, '+inf') - 1
if others > 0 then return {0, others} end
call('DEL', readers)
call('SET', lease, '~~' .. owner, 'PX', ttl)
return {next_token(true), ttl}
