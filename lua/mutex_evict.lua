-- mutex_evict: take the lock from whoever has it, for an operator, and hand it to who waits first.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  whom to take it from, as mutex_inspect shows the lease; empty: whoever has it
-- Returns  who had it, or nil when it was free or another's
-- Retry    unsafe: a repetition would evict the next holder
local lease, fence, queue, readers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local value = call('GET', lease)
if not value then return false end
local holder = string.match(value, '[^~].*')
if ARGV[1] ~= '' and ARGV[1] ~= holder then return false end
local now = call('TIME')
-- include lock_queue
-- include lock_memory
-- What the evicted have still under way shall not take the lock again behind the back of whoever has it next, and let them believe that they
-- had it all the time. Twice the usual command timeout.
local evicted = {holder}
if string.byte(holder) == 37 then evicted = call('ZRANGEBYSCORE', readers, '(' .. string.format('%.0f', ms), '+inf') end
call('DEL', lease, readers)
dismiss(evicted, '10000')
pass_on(string.sub(value, 1, 2) == '~~' and string.byte(holder) ~= 37, '~~')
return holder
