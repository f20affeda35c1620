-- rw_mutex_unshare: leave the readers; the last to go hands the lock to who waits first.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  owner id
-- Returns  1 when released, 0 when this owner is no reader
-- Retry    unsafe: a repetition cannot tell "released before" from "lost"; mutex_withdraw is the repetition
local lease, fence, queue, readers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local value = call('GET', lease)
if not value or not string.find(value, '^~*%%') or call('ZREM', readers, ARGV[1]) == 0 then return 0 end
local now = call('TIME')
-- include lock_queue
if phase_goes_on() then return 1 end
if string.byte(value) == 126 then
  pass_on(false, '~~')
else
  call('DEL', lease)
end
return 1
