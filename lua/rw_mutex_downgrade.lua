-- rw_mutex_downgrade: turn the writer's lease into a reader's without letting a writer in between, and begin a phase with all readers who
-- wait.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- Returns  {token of the phase, milliseconds left}; {0, 0} when this owner does not have the lock
-- Retry    safe: a repetition finds the reader and answers the same
local lease, fence, queue, readers, owner, ttl = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local call = redis.call
local now = call('TIME')
-- include lock_queue
local value = call('GET', lease) or ''
if value == owner or value == '~' .. owner or value == '~~' .. owner then return {admit_readers(owner, ttl), ttl} end
local phase = string.match(value, '^~*%%(%d+)$')
local last = phase and call('ZSCORE', readers, owner)
if last and tonumber(last) > ms then return {phase, math.floor(last - ms)} end
return {0, 0}
