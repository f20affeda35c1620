-- latch_leave: wait no longer.
--
-- KEYS[1]  waiters key
-- ARGV[1]  owner id
-- ARGV[2]  channel
-- Returns  1 when it waited, 0 when not
-- Retry    safe: who has left has left
return redis.call('ZREM', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
