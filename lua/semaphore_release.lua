-- semaphore_release: give permits back, if this owner has them, and hand them to those who wait.
--
-- KEYS[1]  permits key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- ARGV[1]  owner id
-- ARGV[2]  how many they are
-- Returns  1 when released, 0 when this owner does not have them
-- Retry    unsafe: a repetition cannot tell "released before" from "lost"; semaphore_withdraw is the repetition
local permits, fence, queue, member = KEYS[1], KEYS[2], KEYS[3], ARGV[2] .. ' ' .. ARGV[1]
local call = redis.call
local ends = call('ZSCORE', permits, member)
if not ends then return 0 end
local now = call('TIME')
-- include permit_queue
-- A full server lets a script write whose first write frees something.
call('ZREM', permits, member)
if call('EXISTS', queue) == 1 then
  serve()
  save()
end
return tonumber(ends) > ms and 1 or 0
